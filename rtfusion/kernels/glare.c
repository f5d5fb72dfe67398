/* What is done to every pixel where the visible band is burnt out, in one pass each: finding it, giving it a rim, telling how far
 * it hides the thermal band, and showing thermal detail there. The forms in OpenCV that give the same bits are in
 * rtfusion/fusion/glare.py. C11.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "vectorized.h"

/* bytes beside a line of scratch, of which there are LINES, each (width + 2 * MARGIN) 16-bit words */
enum { MARGIN = 16, LINES = 8, REACH = 2, SIDE = 2 * REACH + 1, BLOCK = 8 };

/* One 8-bit image, or a part of it. */
typedef struct {
    uint8_t *pixels;
    ptrdiff_t stride_bytes;
} Image;

/* The size of all images of a call; the memory belongs to the caller. Kept equal to rtfusion/kernels/glare.py. */
typedef struct {
    int32_t width_px, height_px; /* SIDE or more each */
    uint16_t *scratch;           /* (LINES, width + 2 * MARGIN) */
} Part;

static inline uint16_t *scratch(const Part *part, int line) {
    return part->scratch + (size_t)line * (size_t)(part->width_px + 2 * MARGIN) + MARGIN;
}

static inline uint8_t *row_of(const Image *image, int y) { return image->pixels + y * image->stride_bytes; }
static inline uint8_t larger(uint8_t a, uint8_t b) { return a > b ? a : b; }
static inline uint8_t smaller(uint8_t a, uint8_t b) { return a < b ? a : b; }
static inline int clamped(int index, int count) { return index < 0 ? 0 : index >= count ? count - 1 : index; }
static inline int mirrored(int index, int count) {
    return index < 0 ? -index : index >= count ? 2 * (count - 1) - index : index;
}

/* A product of 255ths, rounded. */
static inline uint8_t share_of(uint8_t a, uint8_t b) {
    uint16_t product = (uint16_t)((uint16_t)(a * b) + 128);
    return (uint8_t)((uint16_t)(product + (product >> 8)) >> 8);
}

/* So many times a level, halves to even, up to 255. */
static inline uint8_t times(int level, float gain) {
    const float whole = 12582912.0f; /* 1.5 * 2^23: adding it leaves whole numbers */
    float value = ((float)level * gain + whole) - whole;
    return (uint8_t)(int32_t)(value < 255.0f ? value : 255.0f);
}

/* Where the values of a row begin that are not 0, and where they end: from a word of them to a word. */
typedef struct {
    int first, end;
} Span;

static inline int is_zero(const uint8_t *values) {
    uint64_t word;
    memcpy(&word, values, sizeof word);
    return word == 0;
}

static Span span_of(const uint8_t *values, int width) {
    Span span = {0, width};
    while (span.first + 8 <= span.end && is_zero(values + span.first)) span.first += 8;
    while (span.end - 8 >= span.first && is_zero(values + span.end - 8)) span.end -= 8;
    return span;
}

/* The largest of some values. */
static inline __attribute__((always_inline)) uint8_t peak_of(const uint8_t *values, int count) {
    uint8_t peak = 0;
    for (int x = 0; x < count; x++) peak = larger(peak, values[x]);
    return peak;
}

/* The largest of 5 x 5 pixels about each of a row; what lies outside does not count. */
VECTORIZED static void largest(const Part *part, const Image *image, int y, uint8_t *restrict out) {
    int width = part->width_px;
    uint8_t *restrict line = (uint8_t *)scratch(part, 0);
    const uint8_t *rows[SIDE];
    for (int tap = 0; tap < SIDE; tap++) rows[tap] = row_of(image, clamped(y + tap - REACH, part->height_px));
    const uint8_t *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3], *e = rows[4];
    for (int x = 0; x < width; x++) line[x] = larger(larger(larger(a[x], b[x]), larger(c[x], d[x])), e[x]);
    line[-1] = line[-2] = line[0];
    line[width] = line[width + 1] = line[width - 1];
    for (int x = 0; x < width; x++)
        out[x] = larger(larger(larger(line[x - 2], line[x - 1]), larger(line[x], line[x + 1])), line[x + 2]);
}

/* The smallest of them. */
VECTORIZED static void smallest(const Part *part, const Image *image, int y, uint8_t *restrict out) {
    int width = part->width_px;
    uint8_t *restrict line = (uint8_t *)scratch(part, 0);
    const uint8_t *rows[SIDE];
    for (int tap = 0; tap < SIDE; tap++) rows[tap] = row_of(image, clamped(y + tap - REACH, part->height_px));
    const uint8_t *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3], *e = rows[4];
    for (int x = 0; x < width; x++) line[x] = smaller(smaller(smaller(a[x], b[x]), smaller(c[x], d[x])), e[x]);
    line[-1] = line[-2] = line[0];
    line[width] = line[width + 1] = line[width - 1];
    for (int x = 0; x < width; x++)
        out[x] = smaller(smaller(smaller(line[x - 2], line[x - 1]), smaller(line[x], line[x + 1])), line[x + 2]);
}

VECTORIZED static int32_t find_row(const uint8_t *restrict row, const uint8_t *restrict high, const uint8_t *restrict low,
                                   int width, int whole, float burnt_gain, int most_span, float flat_gain,
                                   uint8_t *restrict out) {
    int32_t found = 0;
    for (int x = 0; x < width; x++) {
        int above = row[x] - whole, flat = most_span - (high[x] - low[x]);
        uint8_t burnt = smaller(times(above < 0 ? 0 : above, burnt_gain), times(flat < 0 ? 0 : flat, flat_gain));
        out[x] = burnt;
        found += burnt > 0;
    }
    return found;
}

static void mirror_ends(uint8_t *line, int width) {
    for (int step = 1; step <= REACH; step++) {
        line[-step] = line[step];
        line[width - 1 + step] = line[width - 1 - step];
    }
}

/* The mean of 3 x 3 pixels, rounded. */
VECTORIZED static void mean_3(const uint8_t *restrict a, const uint8_t *restrict b, const uint8_t *restrict c, int width,
                              uint16_t *restrict sums, uint8_t *restrict out) {
    for (int x = -1; x <= width; x++) sums[x] = (uint16_t)(a[x] + b[x] + c[x]);
    for (int x = 0; x < width; x++) out[x] = (uint8_t)((uint16_t)(sums[x - 1] + sums[x] + sums[x + 1] + 4) / 9);
}

/* The mean of 5 x 5 pixels, rounded, times another row in 255ths. */
VECTORIZED static void mean_5(const uint8_t *const *lines, const uint8_t *restrict by, int width, uint16_t *restrict sums,
                              uint8_t *restrict out) {
    const uint8_t *a = lines[0], *b = lines[1], *c = lines[2], *d = lines[3], *e = lines[4];
    Span span = span_of(by, width);
    memset(out, 0, (size_t)width);
    for (int x = span.first - REACH; x < span.end + REACH; x++) sums[x] = (uint16_t)(a[x] + b[x] + c[x] + d[x] + e[x]);
    for (int x = span.first; x < span.end; x++) {
        uint16_t sum = (uint16_t)(sums[x - 2] + sums[x - 1] + sums[x] + sums[x + 1] + sums[x + 2] + 12);
        out[x] = share_of((uint8_t)(sum / 25), by[x]);
    }
}

VECTORIZED static void ramp(uint8_t *line, int width, int from, float gain) {
    for (int x = 0; x < width; x++) line[x] = times(line[x] < from ? 0 : line[x] - from, gain);
}

VECTORIZED static void relight_row(const uint8_t *restrict fused, const uint8_t *restrict thermal,
                                   const uint8_t *restrict share, const uint8_t *restrict expected,
                                   const uint8_t *restrict ground, const uint8_t *restrict gained, int brightest, int width,
                                   uint8_t *restrict sizes, uint8_t *restrict out) {
    Span span = span_of(share, width);
    memcpy(out, fused, (size_t)width);
    for (int x = span.first; x < span.end; x++)
        sizes[x] = (uint8_t)(thermal[x] > expected[x] ? thermal[x] - expected[x] : expected[x] - thermal[x]);
    for (int x = span.first; x < span.end; x++) sizes[x] = gained[sizes[x]];
    for (int x = span.first; x < span.end; x++) {
        int16_t shown = (int16_t)(thermal[x] > expected[x] ? ground[x] + sizes[x] : ground[x] - sizes[x]);
        shown = shown < 0 ? 0 : shown > brightest ? (int16_t)brightest : shown;
        int16_t made = (int16_t)(share_of((uint8_t)shown, share[x]) + share_of(fused[x], (uint8_t)(255 - share[x])));
        out[x] = (uint8_t)(made > 255 ? 255 : made);
    }
}

/* Eight rows of pixels to one of blocks: the means of a share and of what it leaves of another row, halves to even. */
VECTORIZED static void block_means(const Image *share, const Image *thermal, int top, int columns, uint16_t *restrict of_share,
                                   uint16_t *restrict of_seen, uint8_t *restrict shares, uint8_t *restrict levels) {
    int width = BLOCK * columns;
    for (int x = 0; x < width; x++) of_share[x] = of_seen[x] = 0;
    for (int y = top; y < top + BLOCK; y++) {
        const uint8_t *restrict by = row_of(share, y), *restrict row = row_of(thermal, y);
        for (int x = 0; x < width; x++) {
            of_share[x] = (uint16_t)(of_share[x] + by[x]);
            of_seen[x] = (uint16_t)(of_seen[x] + share_of(row[x], by[x]));
        }
    }
    for (int column = 0; column < columns; column++) {
        int sum = 0, seen = 0;
        for (int x = BLOCK * column; x < BLOCK * (column + 1); x++) sum += of_share[x], seen += of_seen[x];
        shares[column] = (uint8_t)((sum + 31 + ((sum >> 6) & 1)) >> 6);
        levels[column] = (uint8_t)((seen + 31 + ((seen >> 6) & 1)) >> 6);
    }
}

/* The largest within four pixels of the upper left one of each block of a row, of what a share leaves. */
VECTORIZED static void block_peaks(const Part *part, const Image *share, const Image *thermal, int top, int columns,
                                   uint8_t *restrict line, uint8_t *restrict peaks) {
    int width = part->width_px, first = top - BLOCK / 2, last = top + BLOCK / 2;
    for (int x = 0; x < width; x++) line[x] = 0;
    for (int y = first < 0 ? 0 : first; y <= last && y < part->height_px; y++) {
        const uint8_t *restrict by = row_of(share, y), *restrict row = row_of(thermal, y);
        for (int x = 0; x < width; x++) line[x] = larger(line[x], share_of(row[x], by[x]));
    }
    for (int step = 1; step <= BLOCK / 2; step++) line[-step] = 0, line[width - 1 + step] = 0;
    for (int column = 0; column < columns; column++)
        peaks[column] = peak_of(line + BLOCK * column - BLOCK / 2, BLOCK + 1);
}

/* How far pixels are burnt out: brighter than `whole`, by a gain, and flat, with a span of less than `most_span` within 5 x 5
 * pixels, by another gain. Gives the number of pixels that are so at all. */
EXPORTED int32_t rtfusion_find_glare(const Part *part, const Image *visible, int32_t whole, float burnt_gain,
                                     int32_t most_span, float flat_gain, const Image *out) {
    int32_t found = 0;
    uint8_t *high = (uint8_t *)scratch(part, 1), *low = (uint8_t *)scratch(part, 2);
    for (int y = 0; y < part->height_px; y++) {
        if (peak_of(row_of(visible, y), part->width_px) <= whole) {
            memset(row_of(out, y), 0, (size_t)part->width_px);
            continue;
        }
        largest(part, visible, y, high);
        smallest(part, visible, y, low);
        found += find_row(row_of(visible, y), high, low, part->width_px, whole, burnt_gain, most_span, flat_gain,
                          row_of(out, y));
    }
    return found;
}

/* The mean over 3 x 3 pixels of the largest among 5 x 5, mirrored beyond the edges. */
EXPORTED void rtfusion_rim(const Part *part, const Image *burnt, const Image *out) {
    int width = part->width_px, height = part->height_px, made = 0;
    uint8_t *lines[3];
    for (int line = 0; line < 3; line++) lines[line] = (uint8_t *)scratch(part, 1 + line);
    for (int y = 0; y < height; y++) {
        for (; made <= clamped(y + 1, height); made++) {
            largest(part, burnt, made, lines[made % 3]);
            mirror_ends(lines[made % 3], width);
        }
        mean_3(lines[mirrored(y - 1, height) % 3], lines[y % 3], lines[mirrored(y + 1, height) % 3], width,
               scratch(part, 4), row_of(out, y));
    }
}

/* What is burnt out, as far as the fused luminance is as bright: the mean over 5 x 5 pixels of the largest among as many, on a
 * ramp from a level with a gain. */
EXPORTED void rtfusion_hide(const Part *part, const Image *burnt, const Image *fused, int32_t from, float gain,
                            const Image *out) {
    int width = part->width_px, height = part->height_px, made = 0;
    uint8_t *lines[SIDE];
    for (int line = 0; line < SIDE; line++) lines[line] = (uint8_t *)scratch(part, 1 + line);
    for (int y = 0; y < height; y++) {
        for (; made <= clamped(y + REACH, height); made++) {
            uint8_t *line = lines[made % SIDE];
            largest(part, fused, made, line);
            ramp(line, width, from, gain);
            mirror_ends(line, width);
        }
        const uint8_t *about[SIDE];
        for (int tap = 0; tap < SIDE; tap++) about[tap] = lines[mirrored(y + tap - REACH, height) % SIDE];
        mean_5(about, row_of(burnt, y), width, scratch(part, 1 + SIDE), row_of(out, y));
    }
}

/* The fused luminance with a share of thermal detail on the ground: what differs from the level that is expected, with its gain. */
EXPORTED void rtfusion_relight(const Part *part, const Image *fused, const Image *thermal, const Image *share,
                               const Image *expected, const Image *ground, const uint8_t *gained, int32_t brightest,
                               const Image *out) {
    for (int y = 0; y < part->height_px; y++)
        relight_row(row_of(fused, y), row_of(thermal, y), row_of(share, y), row_of(expected, y), row_of(ground, y), gained,
                    brightest, part->width_px, (uint8_t *)scratch(part, 1), row_of(out, y));
}

/* For each block of 8 x 8 pixels, (rows, columns): the mean of the share, that of what the share leaves of the thermal band, and the
 * largest of this within four pixels of the upper left one. */
EXPORTED void rtfusion_blocks(const Part *part, const Image *share, const Image *thermal, uint8_t *shares, uint8_t *levels,
                              uint8_t *peaks) {
    int columns = part->width_px / BLOCK;
    for (int row = 0; row < part->height_px / BLOCK; row++) {
        size_t first = (size_t)row * (size_t)columns;
        block_means(share, thermal, BLOCK * row, columns, scratch(part, 1), scratch(part, 2), shares + first, levels + first);
        block_peaks(part, share, thermal, BLOCK * row, columns, (uint8_t *)scratch(part, 3), peaks + first);
    }
}
