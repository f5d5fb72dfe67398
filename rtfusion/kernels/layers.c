/* The analytic part of a student, in two passes over the picture: what its network sees, and the picture made of what it says.
 *
 * Both bands are blocks of 4 x 4 pixels. Four pixels of a row are one 32-bit word, so one lane of a vector is one block, and
 * everything below is a loop over the blocks of a row that compilers vectorize. All numbers are float32 in gray levels; nothing
 * is contracted, so that the twin in NumPy (twin.py) computes the same bits. The formulas are those of
 * rtfusion_trainer/student.py. C11, little-endian.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "vectorized.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "four pixels are read as one little-endian word"
#endif

enum { BLOCK = 4, BANDS = 2, VISIBLE = 0, THERMAL = 1 };
enum { SEEN_WORDS = 10, GAIN_WORDS = 8, HEADS = 8 };
/* planes of blocks, (h, w): four of each band, then the smooth part of the picture */
enum { MEAN = 0, ONCE = 1, BASE = 2, FINE = 3, BAND_PLANES = 4, SMOOTH = 8 };
/* rows of scratch, (w + 2 * MARGIN) floats each */
enum { MARGIN = 4, LINES = 0, SHOWN = 3, WORDS = 5, SPARE = 13 };

#ifndef SOURCE_FINGERPRINT
#define SOURCE_FINGERPRINT ""
#endif
/* SHA-256 of all sources, by which an older library is told */
EXPORTED const char *const rtfusion_source = SOURCE_FINGERPRINT;

static const float NEAR_WEIGHT[BLOCK] = {0.625f, 0.875f, 0.875f, 0.625f};
static const float FAR_WEIGHT[BLOCK] = {0.375f, 0.125f, 0.125f, 0.375f};

/* One 8-bit image, (height, width), with gaps between its rows or without. */
typedef struct {
    const uint8_t *pixels;
    ptrdiff_t stride_bytes;
} Image;

/* What both passes need; the memory belongs to the caller. Kept equal to rtfusion/kernels/__init__.py. */
typedef struct {
    Image images[BANDS];
    int32_t width_px, height_px; /* of the images; the blocks cover them, the edge repeated */
    int32_t columns, rows;       /* of blocks */
    float *planes;               /* (9, rows, columns) */
    float *scratch;              /* (SPARE + 8, columns + 2 * MARGIN) */
    float scene_means[BANDS];
    float slopes[3];      /* of d0, d1 and d2: the preference for the stronger band, per gray level of its lead */
    float coring;         /* 1 / gray levels from which on a gain that amplifies counts in full */
    float pick_gain;
    float detail_scale, base_scale;
    float floor_gray, offset_gray;
    float faint_gray, clear_per_gray;
    float far, far_gain;  /* 0 to 1 at the far end of the dial; gain of d1 and d2 there */
    float gain_low[BANDS], gain_step[BANDS];
} Form;

static inline float least(float a, float b) { return a < b ? a : b; }
static inline float most(float a, float b) { return a > b ? a : b; }
static inline float magnitude(float a) { return __builtin_fabsf(a); }
static inline float *plane(const Form *form, int index) {
    return form->planes + (size_t)index * (size_t)form->rows * (size_t)form->columns;
}
static inline float *band_plane(const Form *form, int band, int which) { return plane(form, band * BAND_PLANES + which); }
static inline float *scratch(const Form *form, int row) {
    return form->scratch + (size_t)row * (size_t)(form->columns + 2 * MARGIN) + MARGIN;
}
static inline int clamped(int index, int count) { return index < 0 ? 0 : index >= count ? count - 1 : index; }
static inline float pixel(uint32_t word, int phase) { return (float)(int32_t)((word >> (8 * phase)) & 255u); }

/* exp(x) to a ten-thousandth, of what is in -80 to 80 */
static inline float exponential(float x) {
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it leaves whole numbers */
    float power = least(most(x, -80.0f), 80.0f) * 1.44269504f;
    float whole = (power + round) - round;
    float f = power - whole;
    float value = ((5.517166e-2f * f + 2.4261112e-1f) * f + 6.9326099e-1f) * f + 9.9992807e-1f;
    int32_t bits = ((int32_t)whole + 127) * (1 << 23);
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return value * scale;
}

/* What amplifies counts less for details of few gray levels. */
static inline float cored(float gain, float strength, float coring) {
    return least(gain, gain * least(strength * coring, 1.0f));
}

/* One row of pixels as words of four, the edge repeated: the image itself where it reaches so far. */
static const uint8_t *row_of(const Form *form, int band, int row, uint8_t *spare) {
    const Image *image = &form->images[band];
    const uint8_t *pixels = image->pixels + clamped(row, form->height_px) * image->stride_bytes;
    int padded_px = BLOCK * form->columns;
    if (padded_px == form->width_px) return pixels;
    memcpy(spare, pixels, (size_t)form->width_px);
    memset(spare + form->width_px, pixels[form->width_px - 1], (size_t)(padded_px - form->width_px));
    return spare;
}

static inline uint32_t word_of(const uint8_t *row, int column) {
    uint32_t word;
    memcpy(&word, row + 4 * column, sizeof word);
    return word;
}

static inline void repeat_edges(float *row, int columns, int margin) {
    for (int step = 1; step <= margin; step++) {
        row[-step] = row[0];
        row[columns - 1 + step] = row[columns - 1];
    }
}

/* One of the four rows of pixels in a row of blocks of a plane, interpolated vertically, with margins of one. */
static inline void lift(const float *restrict values, const Form *form, int row, int phase, float *restrict line) {
    int columns = form->columns;
    const float *near = values + (size_t)row * (size_t)columns;
    const float *far = values + (size_t)clamped(phase < 2 ? row - 1 : row + 1, form->rows) * (size_t)columns;
    float near_weight = NEAR_WEIGHT[phase], far_weight = FAR_WEIGHT[phase];
    for (int column = 0; column < columns; column++)
        line[column] = near_weight * near[column] + far_weight * far[column];
    repeat_edges(line, columns, 1);
}

/* The value of one pixel of a line. */
static inline float lifted(const float *line, int column, int phase) {
    return NEAR_WEIGHT[phase] * line[column] + FAR_WEIGHT[phase] * line[phase < 2 ? column - 1 : column + 1];
}

VECTORIZED static void average(const Form *form, int band) {
    float *means = band_plane(form, band, MEAN);
    int columns = form->columns;
    for (int row = 0; row < form->rows; row++) {
        const uint8_t *lines[BLOCK];
        for (int phase = 0; phase < BLOCK; phase++)
            lines[phase] = row_of(form, band, BLOCK * row + phase, (uint8_t *)scratch(form, SPARE + phase));
        float *restrict mean = means + (size_t)row * (size_t)columns;
        for (int column = 0; column < columns; column++) {
            uint32_t sum = 0; /* of even and of odd pixels, in halves of the word */
            for (int phase = 0; phase < BLOCK; phase++) {
                uint32_t word = word_of(lines[phase], column);
                sum += (word & 0x00FF00FFu) + ((word >> 8) & 0x00FF00FFu);
            }
            mean[column] = (float)(int32_t)((sum & 0xFFFFu) + (sum >> 16)) * 0.0625f;
        }
    }
}

/* The binomial blur of a plane, its taps so many blocks apart. */
VECTORIZED static void blur(const Form *form, const float *restrict from, float *restrict to, int apart) {
    int columns = form->columns, rows = form->rows;
    float *restrict line = scratch(form, LINES);
    for (int row = 0; row < rows; row++) {
        const float *taps[5];
        for (int tap = 0; tap < 5; tap++)
            taps[tap] = from + (size_t)clamped(row + (tap - 2) * apart, rows) * (size_t)columns;
        const float *a = taps[0], *b = taps[1], *c = taps[2], *d = taps[3], *e = taps[4];
        for (int x = 0; x < columns; x++)
            line[x] = (a[x] + e[x]) * 0.0625f + (b[x] + d[x]) * 0.25f + c[x] * 0.375f;
        repeat_edges(line, columns, 2 * apart);
        float *restrict out = to + (size_t)row * (size_t)columns;
        for (int x = 0; x < columns; x++)
            out[x] = (line[x - 2 * apart] + line[x + 2 * apart]) * 0.0625f + (line[x - apart] + line[x + apart]) * 0.25f +
                     line[x] * 0.375f;
    }
}

static inline uint32_t level(float value) { return (uint32_t)(int32_t)(least(value, 255.0f) + 0.5f); }

/* The blocks of a row and what goes on in them, as the network sees them. */
VECTORIZED static void see(const Form *form, int row, uint32_t *restrict seen) {
    int columns = form->columns;
    size_t first = (size_t)row * (size_t)columns;
    for (int band = 0; band < BANDS; band++) {
        float *restrict fine = band_plane(form, band, FINE) + first;
        const float *mean = band_plane(form, band, MEAN);
        float *restrict line = scratch(form, LINES);
        for (int column = 0; column < columns; column++) fine[column] = 0.0f;
        for (int phase = 0; phase < BLOCK; phase++) {
            const uint8_t *pixels = row_of(form, band, BLOCK * row + phase, (uint8_t *)scratch(form, SPARE + phase));
            lift(mean, form, row, phase, line);
            uint32_t *restrict packed = seen + band * BLOCK + phase;
            for (int column = 0; column < columns; column++) {
                uint32_t word = word_of(pixels, column);
                float sum = 0.0f;
                for (int x = 0; x < BLOCK; x++) sum += magnitude(pixel(word, x) - lifted(line, column, x));
                fine[column] += sum * 0.0625f;
            }
            for (int column = 0; column < columns; column++) packed[SEEN_WORDS * column] = word_of(pixels, column);
        }
    }
    const float *mean_v = band_plane(form, VISIBLE, MEAN) + first, *mean_t = band_plane(form, THERMAL, MEAN) + first;
    const float *once_v = band_plane(form, VISIBLE, ONCE) + first, *once_t = band_plane(form, THERMAL, ONCE) + first;
    const float *base_v = band_plane(form, VISIBLE, BASE) + first, *base_t = band_plane(form, THERMAL, BASE) + first;
    const float *fine_v = band_plane(form, VISIBLE, FINE) + first, *fine_t = band_plane(form, THERMAL, FINE) + first;
    float detail = form->detail_scale, base = form->base_scale;
    float scene_v = form->scene_means[VISIBLE], scene_t = form->scene_means[THERMAL];
    uint32_t *restrict coarse = (uint32_t *)scratch(form, WORDS), *restrict rest = (uint32_t *)scratch(form, WORDS + 1);
    for (int x = 0; x < columns; x++) {
        coarse[x] = level(magnitude(mean_v[x] - once_v[x]) * detail) | level(magnitude(mean_t[x] - once_t[x]) * detail) << 8 |
                    level(magnitude(once_v[x] - base_v[x]) * detail) << 16 |
                    level(magnitude(once_t[x] - base_t[x]) * detail) << 24;
        rest[x] = level(magnitude(base_v[x] - scene_v) * base) | level(magnitude(base_t[x] - scene_t) * base) << 8 |
                  level(fine_v[x] * detail) << 16 | level(fine_t[x] * detail) << 24;
    }
    for (int x = 0; x < columns; x++) {
        seen[SEEN_WORDS * x + 8] = coarse[x];
        seen[SEEN_WORDS * x + 9] = rest[x];
    }
}

/* What is shown of d1, d2 and the base, and the offset, of one row of blocks; heads are (columns, 8). */
VECTORIZED static void soften(const Form *form, int row, const float *restrict heads) {
    int columns = form->columns;
    size_t first = (size_t)row * (size_t)columns;
    const float *mean_v = band_plane(form, VISIBLE, MEAN) + first, *mean_t = band_plane(form, THERMAL, MEAN) + first;
    const float *once_v = band_plane(form, VISIBLE, ONCE) + first, *once_t = band_plane(form, THERMAL, ONCE) + first;
    const float *base_v = band_plane(form, VISIBLE, BASE) + first, *base_t = band_plane(form, THERMAL, BASE) + first;
    float scene_v = form->scene_means[VISIBLE], scene_t = form->scene_means[THERMAL];
    float gain = 1.0f + form->far_gain * form->far, full = form->pick_gain * gain, coring = form->coring;
    float slope_1 = form->slopes[1], slope_2 = form->slopes[2], floor = form->floor_gray, offset = form->offset_gray;
    float *restrict smooth = plane(form, SMOOTH) + first;
    for (int x = 0; x < columns; x++) {
        const float *said = heads + (size_t)x * HEADS;
        float d1_v = mean_v[x] - once_v[x], d1_t = mean_t[x] - once_t[x];
        float d2_v = once_v[x] - base_v[x], d2_t = once_t[x] - base_t[x];
        float s1_v = magnitude(d1_v), s1_t = magnitude(d1_t), s2_v = magnitude(d2_v), s2_t = magnitude(d2_t);
        float pick_1 = full / (1.0f + exponential((s1_t - s1_v) * slope_1));
        float pick_2 = full / (1.0f + exponential((s2_t - s2_v) * slope_2));
        float sum = (pick_1 + cored(said[0] * gain, s1_v, coring)) * d1_v;
        sum += ((full - pick_1) + cored(said[1] * gain, s1_t, coring)) * d1_t;
        sum += (pick_2 + cored(said[2] * gain, s2_v, coring)) * d2_v;
        sum += ((full - pick_2) + cored(said[3] * gain, s2_t, coring)) * d2_t;
        float mine = magnitude(base_v[x] - scene_v) + floor;
        float other = (magnitude(base_t[x] - scene_t) + floor) * exponential(said[4] + said[5]);
        sum += base_t[x] + mine / (mine + other) * (base_v[x] - base_t[x]);
        smooth[x] = sum + (2.0f * offset / (1.0f + exponential(said[6] + said[7])) - offset);
    }
}

/* How much of d0 the blocks of a row show. */
static inline void show(const Form *form, int row, int band, float *restrict shown) {
    const float *fine = band_plane(form, band, FINE) + (size_t)row * (size_t)form->columns;
    float faint = form->faint_gray, clear = form->clear_per_gray, far = form->far;
    for (int x = 0; x < form->columns; x++)
        shown[x] = 1.0f - far * (1.0f - least(most((fine[x] - faint) * clear, 0.0f), 1.0f));
}

/* What one row of pixels is made of. */
typedef struct {
    const uint8_t *images[BANDS];
    const uint32_t *gains[BANDS];
    const float *means[BANDS], *shown[BANDS], *smooth; /* lines, and how much of d0 each block shows */
} Row;

/* One pixel of the picture in the block of a column, as a level. */
static inline __attribute__((always_inline)) uint32_t mixed(const Form *form, const Row *row, int column, int x) {
    float d_v = pixel(word_of(row->images[VISIBLE], column), x) - lifted(row->means[VISIBLE], column, x);
    float d_t = pixel(word_of(row->images[THERMAL], column), x) - lifted(row->means[THERMAL], column, x);
    float s_v = magnitude(d_v), s_t = magnitude(d_t);
    float g_v = pixel(row->gains[VISIBLE][column], x) * form->gain_step[VISIBLE] + form->gain_low[VISIBLE];
    float g_t = pixel(row->gains[THERMAL][column], x) * form->gain_step[THERMAL] + form->gain_low[THERMAL];
    float preferred = form->pick_gain / (1.0f + exponential((s_t - s_v) * form->slopes[0]));
    d_v *= row->shown[VISIBLE][column];
    d_t *= row->shown[THERMAL][column];
    float value = cored(g_v, s_v, form->coring) * d_v + cored(g_t, s_t, form->coring) * d_t;
    value += preferred * (d_v - d_t) + form->pick_gain * d_t;
    value += lifted(row->smooth, column, x);
    return level(most(value, 0.0f));
}

/* One row of pixels of the picture. */
static inline __attribute__((always_inline)) void mix(const Form *shared, Row row, uint32_t *restrict fused) {
    const Form form = *shared;
    for (int column = 0; column < form.columns; column++)
        fused[column] = mixed(&form, &row, column, 0) | mixed(&form, &row, column, 1) << 8 |
                        mixed(&form, &row, column, 2) << 16 | mixed(&form, &row, column, 3) << 24;
}

VECTORIZED static void paint(const Form *form, int row, const uint32_t *restrict gains, uint8_t *fused,
                             ptrdiff_t stride_bytes) {
    int columns = form->columns;
    show(form, row, VISIBLE, scratch(form, SHOWN));
    show(form, row, THERMAL, scratch(form, SHOWN + 1));
    for (int phase = 0; phase < BLOCK; phase++) {
        int y = BLOCK * row + phase;
        if (y >= form->height_px) return;
        uint32_t *restrict gains_v = (uint32_t *)scratch(form, WORDS), *restrict gains_t = (uint32_t *)scratch(form, WORDS + 1);
        for (int x = 0; x < columns; x++) {
            gains_v[x] = gains[GAIN_WORDS * x + phase];
            gains_t[x] = gains[GAIN_WORDS * x + BLOCK + phase];
        }
        Row line = {.gains = {gains_v, gains_t}, .smooth = scratch(form, LINES + 2)};
        for (int band = 0; band < BANDS; band++) {
            line.images[band] = row_of(form, band, y, (uint8_t *)scratch(form, SPARE + band));
            line.means[band] = scratch(form, LINES + band);
            line.shown[band] = scratch(form, SHOWN + band);
            lift(band_plane(form, band, MEAN), form, row, phase, scratch(form, LINES + band));
        }
        lift(plane(form, SMOOTH), form, row, phase, scratch(form, LINES + 2));
        uint32_t *made = (uint32_t *)scratch(form, SPARE + 2);
        mix(form, line, made);
        memcpy(fused + y * stride_bytes, made, (size_t)form->width_px);
    }
}

/* Both images to what the network sees, (rows, columns, 40) uint8; the planes are kept for `rtfusion_join`. */
EXPORTED void rtfusion_split(const Form *form, uint8_t *seen) {
    for (int band = 0; band < BANDS; band++) {
        average(form, band);
        blur(form, band_plane(form, band, MEAN), band_plane(form, band, ONCE), 1);
        blur(form, band_plane(form, band, ONCE), band_plane(form, band, BASE), 2);
    }
    for (int row = 0; row < form->rows; row++)
        see(form, row, (uint32_t *)seen + (size_t)row * (size_t)form->columns * SEEN_WORDS);
}

/* What the network says, gains (rows, columns, 32) uint8 and heads (rows, columns, 8), to the fused (height, width) uint8. */
EXPORTED void rtfusion_join(const Form *form, const uint8_t *gains, const float *heads, uint8_t *fused,
                            ptrdiff_t stride_bytes) {
    for (int row = 0; row < form->rows; row++) soften(form, row, heads + (size_t)row * (size_t)form->columns * HEADS);
    for (int row = 0; row < form->rows; row++)
        paint(form, row, (const uint32_t *)gains + (size_t)row * (size_t)form->columns * GAIN_WORDS, fused, stride_bytes);
}
