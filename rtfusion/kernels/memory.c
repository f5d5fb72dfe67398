/* What denoising does to every pixel, in one pass each: comparing a frame with what is remembered, averaging it in, putting a
 * luminance under colors, smoothing the borders of blocks, holding what hardly changed. The forms in OpenCV that give the same
 * bits are in rtfusion/fusion/passes.py. All numbers are whole but two products. C11, little-endian.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "vectorized.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "two averages are read as one little-endian word"
#endif

/* as in rtfusion/fusion/recursion.py */
enum { FINE_BITS = 3, STATE_BITS = 7, HELD = 58 };
enum { BLOCK = 4, RAMP_BITS = 10, FULL = 1 << (STATE_BITS - FINE_BITS) };
/* rows of scratch, (w + 2 * MARGIN) 32-bit words each */
enum { MARGIN = 16, STEPS = 0, SIZES = 1, CELLS = 2, CELL_SIZES = 4, PIXEL_SIZES = 6, LARGEST = 7, LINES = 8 };

/* The average of one plane, (height, width); the memory belongs to the caller. Kept equal to rtfusion/kernels/memory.py. */
typedef struct {
    int32_t width_px, height_px;
    int16_t *mean, *shown; /* in steps of 1 / 2^STATE_BITS; the one that is shown follows when it is almost half a step off */
    int32_t *scratch;      /* (LINES + 4, width + 2 * MARGIN) */
} Memory;

/* A frame in steps of 1 / 2^FINE_BITS, or as it came. */
typedef struct {
    const void *pixels;
    ptrdiff_t stride_bytes;
    int32_t is_fine;
} Frame;

/* How a figure opens the gate. */
typedef struct {
    float scale; /* from fine steps to sizes of 255 at most */
    int32_t slope, offset; /* of the weight over the size, in 2^RAMP_BITS */
} Ramp;

static inline int32_t *scratch(const Memory *memory, int row) {
    return memory->scratch + (size_t)row * (size_t)(memory->width_px + 2 * MARGIN) + MARGIN;
}

static inline uint32_t word_at(const void *values, int index) {
    uint32_t word;
    memcpy(&word, (const uint8_t *)values + 4 * (size_t)index, sizeof word);
    return word;
}

static inline int32_t low(uint32_t word) { return (int32_t)(word << 16) >> 16; }
static inline int32_t high(uint32_t word) { return (int32_t)word >> 16; }
static inline int16_t magnitude(int16_t value) { return (int16_t)(value < 0 ? -value : value); }
static inline int16_t smaller(int16_t a, int16_t b) { return a < b ? a : b; }
static inline int16_t larger(int16_t a, int16_t b) { return a > b ? a : b; }
static inline const void *row_of(const Frame *frame, int y) { return (const uint8_t *)frame->pixels + y * frame->stride_bytes; }

/* The sums of two rows: of their differences to what is remembered, and of the sizes of these. */
static inline void subtract(const int16_t *restrict above, const int16_t *restrict below, const int16_t *restrict mean_above,
                            const int16_t *restrict mean_below, int width, int16_t largest, int16_t *restrict steps,
                            int16_t *restrict sizes) {
    for (int x = 0; x < width; x++) {
        int16_t a = (int16_t)(above[x] - (mean_above[x] >> (STATE_BITS - FINE_BITS)));
        int16_t b = (int16_t)(below[x] - (mean_below[x] >> (STATE_BITS - FINE_BITS)));
        steps[x] = (int16_t)(a + b);
        sizes[x] = (int16_t)(smaller(magnitude(a), largest) + smaller(magnitude(b), largest));
    }
}

/* One row in fine steps. */
static inline const int16_t *fine_row(const Frame *frame, int y, int width, int16_t *restrict spare) {
    if (frame->is_fine) return (const int16_t *)row_of(frame, y);
    const uint8_t *restrict row = (const uint8_t *)row_of(frame, y);
    for (int x = 0; x < width; x++) spare[x] = (int16_t)(row[x] << FINE_BITS);
    return spare;
}

/* The cells of two rows of pixels, their sizes, the mean sizes of their pixels, and the largest sizes up to now. */
static inline void pair(const int16_t *restrict steps, const int16_t *restrict sizes, int count, int16_t largest_cell,
                        int16_t *restrict cells, int16_t *restrict cell_sizes, int16_t *restrict pixel_sizes,
                        int16_t *restrict largest) {
    for (int x = 0; x < count; x++) {
        int16_t cell = (int16_t)((steps[2 * x] + steps[2 * x + 1] + 2) >> 2);
        int16_t size = smaller(magnitude(cell), largest_cell);
        cells[x] = cell;
        cell_sizes[x] = size;
        largest[x] = larger(largest[x], size);
        pixel_sizes[x] = (int16_t)((sizes[2 * x] + sizes[2 * x + 1] + 2) >> 2);
    }
}

/* What one row of blocks says of motion; `lowest` is what the lowest cells of the row above have left in scratch. */
VECTORIZED static void compare(const Memory *memory, const Frame *frame, int row, int16_t largest_pixel, int16_t largest_cell,
                               int16_t *restrict cell_peak, int16_t *restrict pixel_size, int16_t *restrict cell_size,
                               int16_t *restrict cell_mean) {
    int width = memory->width_px, columns = width / BLOCK;
    int16_t *restrict steps = (int16_t *)scratch(memory, STEPS), *restrict sizes = (int16_t *)scratch(memory, SIZES);
    int16_t *restrict largest = (int16_t *)scratch(memory, LARGEST);
    for (int half = 0; half < 2; half++) {
        int y = BLOCK * row + 2 * half;
        const int16_t *above = fine_row(frame, y, width, (int16_t *)scratch(memory, LINES));
        const int16_t *below = fine_row(frame, y + 1, width, (int16_t *)scratch(memory, LINES) + width);
        const int16_t *mean = memory->mean + (size_t)y * (size_t)width;
        subtract(above, below, mean, mean + width, width, largest_pixel, steps, sizes);
        int16_t *restrict cells = (int16_t *)scratch(memory, CELLS + half);
        int16_t *restrict cell_sizes = (int16_t *)scratch(memory, CELL_SIZES + half);
        int16_t *restrict pixel_sizes = (int16_t *)scratch(memory, PIXEL_SIZES) + half * width;
        pair(steps, sizes, 2 * columns, largest_cell, cells, cell_sizes, pixel_sizes, largest);
    }
    const int16_t *upper = (int16_t *)scratch(memory, CELLS), *lower = (int16_t *)scratch(memory, CELLS + 1);
    const int16_t *upper_size = (int16_t *)scratch(memory, CELL_SIZES), *lower_size = (int16_t *)scratch(memory, CELL_SIZES + 1);
    const int16_t *upper_pixel = (int16_t *)scratch(memory, PIXEL_SIZES), *lower_pixel = upper_pixel + width;
    largest[-2] = largest[-1] = 0;
    for (int x = 0; x < columns; x++) {
        uint32_t here = word_at(largest, x), left = word_at(largest - 2, x);
        cell_peak[x] = (int16_t)(larger(larger((int16_t)low(here), (int16_t)high(here)), (int16_t)high(left)));
    }
    for (int x = 0; x < columns; x++) {
        uint32_t u = word_at(upper, x), l = word_at(lower, x);
        cell_mean[x] = (int16_t)((low(u) + high(u) + low(l) + high(l) + 2) >> 2);
        u = word_at(upper_size, x), l = word_at(lower_size, x);
        cell_size[x] = (int16_t)((low(u) + high(u) + low(l) + high(l) + 2) >> 2);
        u = word_at(upper_pixel, x), l = word_at(lower_pixel, x);
        pixel_size[x] = (int16_t)((low(u) + high(u) + low(l) + high(l) + 2) >> 2);
    }
    memcpy(largest, lower_size, (size_t)(2 * columns) * sizeof *largest);
}

static inline float rounded(float value) {
    const float whole = 12582912.0f; /* 1.5 * 2^23: adding it leaves whole numbers */
    return (value + whole) - whole;
}

/* The means of 3 x 3 blocks along one row, mirrored beyond the edges. */
static inline void mean_around(const int16_t *restrict above, const int16_t *restrict here, const int16_t *restrict below,
                               int columns, int32_t *restrict sums, float *restrict means) {
    for (int x = 0; x < columns; x++) sums[x] = above[x] + here[x] + below[x];
    sums[-1] = sums[1];
    sums[columns] = sums[columns - 2];
    for (int x = 0; x < columns; x++) means[x] = rounded((float)(sums[x - 1] + sums[x] + sums[x + 1]) * (1.0f / 9.0f));
}

/* Open the gate of one row of blocks as far as one figure says. */
static inline void open_gate(const float *restrict means, const uint8_t *restrict firmness, Ramp ramp, int columns,
                             uint8_t *restrict gate) {
    for (int x = 0; x < columns; x++) {
        float size = __builtin_fabsf(means[x] * ramp.scale);
        int32_t product = (int32_t)rounded(size < 255.0f ? size : 255.0f) * firmness[x] + 128;
        int32_t weight = (((product + (product >> 8)) >> 8) * ramp.slope - ramp.offset) >> RAMP_BITS;
        weight = weight < gate[x] ? gate[x] : weight;
        gate[x] = (uint8_t)(weight > FULL ? FULL : weight);
    }
}

VECTORIZED static void gate_row(const Memory *memory, const int16_t *const *figures, const Ramp *ramps,
                                const uint8_t *firmness, int row, uint8_t *gate) {
    int columns = memory->width_px / BLOCK, rows = memory->height_px / BLOCK;
    size_t here = (size_t)row * (size_t)columns, above = (size_t)(row ? row - 1 : 1) * (size_t)columns;
    size_t below = (size_t)(row + 1 < rows ? row + 1 : rows - 2) * (size_t)columns;
    float *restrict means = (float *)scratch(memory, STEPS);
    for (int x = 0; x < columns; x++) gate[here + (size_t)x] = 0;
    for (int x = 0; x < columns; x++) means[x] = figures[0][here + (size_t)x];
    open_gate(means, firmness, ramps[0], columns, gate + here);
    for (int figure = 1; figure < 4; figure++) {
        const int16_t *from = figures[figure];
        mean_around(from + above, from + here, from + below, columns, scratch(memory, SIZES), means);
        open_gate(means, firmness, ramps[figure], columns, gate + here);
    }
}

/* The weights of one row of blocks, by their gates and the frames since these were open, which are brought up to now. */
VECTORIZED static int32_t weigh_row(const uint8_t *restrict by_age, int oldest, int columns, uint8_t *restrict ages,
                                    uint8_t *restrict weights) {
    int32_t moving = 0;
    for (int x = 0; x < columns; x++) {
        uint8_t gate = weights[x];
        int age = ages[x] * (FULL - gate) / FULL + 1;
        moving += gate > FULL / 2;
        ages[x] = (uint8_t)(age < oldest ? age : oldest);
    }
    for (int x = 0; x < columns; x++) {
        uint8_t least = by_age[ages[x]];
        weights[x] = weights[x] < least ? least : weights[x];
    }
    return moving;
}

static const int16_t FAR_EIGHTHS[BLOCK] = {3, 1, 1, 3};

/* The weights of one row of blocks, interpolated to the columns of pixels, in eighths. */
VECTORIZED static void spread(const Memory *memory, const uint8_t *restrict weights, int16_t *restrict line) {
    int columns = memory->width_px / BLOCK;
    int16_t *restrict values = (int16_t *)scratch(memory, LINES + 3);
    for (int x = 0; x < columns; x++) values[x] = weights[x];
    values[-1] = values[0];
    values[columns] = values[columns - 1];
    for (int x = 0; x < columns; x++) {
        line[BLOCK * x] = (int16_t)(3 * values[x - 1] + 5 * values[x]);
        line[BLOCK * x + 1] = (int16_t)(values[x - 1] + 7 * values[x]);
        line[BLOCK * x + 2] = (int16_t)(values[x + 1] + 7 * values[x]);
        line[BLOCK * x + 3] = (int16_t)(3 * values[x + 1] + 5 * values[x]);
    }
    for (int x = BLOCK * columns; x < memory->width_px; x++) line[x] = line[BLOCK * columns - 1];
}

/* Average one row in, and show it; the weights are so many eighths of one line and the rest of another. */
VECTORIZED static void average(const Memory *memory, const Frame *frame, int y, const int16_t *restrict near,
                               const int16_t *restrict far, int16_t eighths, uint8_t *restrict out) {
    int width = memory->width_px;
    const int16_t *restrict fine = fine_row(frame, y, width, (int16_t *)scratch(memory, STEPS));
    int16_t *restrict mean = memory->mean + (size_t)y * (size_t)width, *restrict shown = memory->shown + (size_t)y * (size_t)width;
    for (int x = 0; x < width; x++) {
        int16_t weight = (int16_t)((int16_t)((8 - eighths) * near[x] + eighths * far[x] + 32) >> 6);
        int16_t step = (int16_t)(fine[x] - (mean[x] >> (STATE_BITS - FINE_BITS)));
        int16_t is = (int16_t)(mean[x] + step * weight), was = shown[x];
        int16_t now = magnitude((int16_t)(is - was)) > HELD ? is : was;
        mean[x] = is;
        shown[x] = now;
        out[x] = (uint8_t)((now + 63 + ((now >> STATE_BITS) & 1)) >> STATE_BITS);
    }
}

/* pixels of a row that are worked on at once: so many that what is written is in the cache when it is read */
enum { LANES = 16, CHANNELS = 3, PART = 20 * LANES, VALUES = CHANNELS * PART };
typedef uint8_t Pixels __attribute__((vector_size(LANES)));
#ifdef __clang__
#define THRICE(a, ...) __builtin_shufflevector(a, a, __VA_ARGS__)
#else
#define THRICE(a, ...) __builtin_shuffle(a, (Pixels){__VA_ARGS__})
#endif

/* Three values side by side for each of so many pixels, a multiple of LANES: one for every channel. */
static inline void thrice(const uint8_t *restrict from, int count, uint8_t *restrict to) {
    for (int x = 0; x < count; x += LANES) {
        Pixels a, thirds[CHANNELS];
        memcpy(&a, from + x, sizeof a);
        thirds[0] = THRICE(a, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5);
        thirds[1] = THRICE(a, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 9, 10, 10);
        thirds[2] = THRICE(a, 10, 11, 11, 11, 12, 12, 12, 13, 13, 13, 14, 14, 14, 15, 15, 15);
        memcpy(to + CHANNELS * x, thirds, sizeof thirds);
    }
}

/* How many of the pixels that are left are worked on next; less than LANES are left for last. */
static inline int part_of(int left_px) { return left_px < PART ? left_px / LANES * LANES : PART; }

static inline uint8_t level(int16_t value) { return (uint8_t)smaller(larger(value, 0), 255); }

/* A color on another luminance: with what is left of it by a share in 255ths, rounded. */
static inline uint8_t tinted(uint8_t color, uint8_t was, uint8_t now, uint8_t share) {
    int16_t step = (int16_t)(color - was);
    uint16_t part = (uint16_t)((uint16_t)magnitude(step) * share + 128);
    int16_t left = (int16_t)((uint16_t)(part + (part >> 8)) >> 8);
    return level((int16_t)(now + (step < 0 ? -left : left)));
}

/* One row of a color picture, changed by a step of its luminance. */
VECTORIZED static void shift(const uint8_t *restrict from, const uint8_t *restrict was, const uint8_t *restrict now,
                             uint8_t *restrict to, int width) {
    int x = 0;
    for (int count; (count = part_of(width - x)) > 0; x += count) {
        uint8_t before[VALUES], after[VALUES];
        thrice(was + x, count, before);
        thrice(now + x, count, after);
        const uint8_t *restrict source = from + CHANNELS * x;
        uint8_t *restrict made = to + CHANNELS * x;
        for (int i = 0; i < CHANNELS * count; i++) made[i] = level((int16_t)(source[i] + after[i] - before[i]));
    }
    for (; x < width; x++)
        for (int i = CHANNELS * x; i < CHANNELS * (x + 1); i++) to[i] = level((int16_t)(from[i] + now[x] - was[x]));
}

/* One row of a color picture on another luminance, with a share of its color for each pixel. */
VECTORIZED static void tint(const uint8_t *restrict from, const uint8_t *restrict was, const uint8_t *restrict now,
                            const uint8_t *restrict share, uint8_t *restrict to, int width) {
    int x = 0;
    for (int count; (count = part_of(width - x)) > 0; x += count) {
        uint8_t before[VALUES], after[VALUES], part[VALUES];
        thrice(was + x, count, before);
        thrice(now + x, count, after);
        thrice(share + x, count, part);
        const uint8_t *restrict source = from + CHANNELS * x;
        uint8_t *restrict made = to + CHANNELS * x;
        for (int i = 0; i < CHANNELS * count; i++) made[i] = tinted(source[i], before[i], after[i], part[i]);
    }
    for (; x < width; x++)
        for (int i = CHANNELS * x; i < CHANNELS * (x + 1); i++) to[i] = tinted(from[i], was[x], now[x], share[x]);
}

VECTORIZED static void hold(uint8_t *restrict image, const uint8_t *restrict shown, size_t count) {
    for (size_t index = 0; index < count; index++) {
        uint8_t is = image[index], was = shown[index];
        uint8_t apart = (uint8_t)(is > was ? is - was : was - is);
        image[index] = apart <= 1 ? was : is;
    }
}

static inline uint8_t moved(int16_t line, int16_t step, int16_t sixteenths) {
    int16_t value = (int16_t)(line + (int16_t)((int16_t)(sixteenths * step + 8) >> 4));
    return (uint8_t)smaller(larger(value, 0), 255);
}

/* The four rows on each side of one border of blocks. */
static inline void smooth_rows(uint8_t *restrict p3, uint8_t *restrict p2, uint8_t *restrict p1, uint8_t *restrict p0,
                               uint8_t *restrict q0, uint8_t *restrict q1, uint8_t *restrict q2, uint8_t *restrict q3,
                               int width, int16_t largest) {
    for (int x = 0; x < width; x++) {
        int16_t step = (int16_t)(q0[x] - p0[x] - (int16_t)((int16_t)(p0[x] - p2[x] + q2[x] - q0[x]) >> 2));
        int16_t rough = larger(magnitude((int16_t)(p0[x] - p3[x])), magnitude((int16_t)(q0[x] - q3[x])));
        int16_t near = larger(magnitude((int16_t)(p0[x] - p1[x])), magnitude((int16_t)(q0[x] - q1[x])));
        rough = larger(larger(rough, (int16_t)(2 * near)), magnitude(step));
        step = rough <= largest ? step : 0;
        p3[x] = moved(p3[x], step, 1);
        p2[x] = moved(p2[x], step, 3);
        p1[x] = moved(p1[x], step, 5);
        p0[x] = moved(p0[x], step, 7);
        q0[x] = moved(q0[x], step, -7);
        q1[x] = moved(q1[x], step, -5);
        q2[x] = moved(q2[x], step, -3);
        q3[x] = moved(q3[x], step, -1);
    }
}

VECTORIZED static void smooth(uint8_t *first, ptrdiff_t stride, int width, int16_t largest) {
    smooth_rows(first, first + stride, first + 2 * stride, first + 3 * stride, first + 4 * stride, first + 5 * stride,
                first + 6 * stride, first + 7 * stride, width, largest);
}

/* Of the difference of a frame to what is remembered, for blocks of BLOCK pixels a side, (rows, columns), in fine steps: the
 * largest size of cells, the means of 2 x 2 pixels, among the nine about the upper left one; the means of the sizes of pixels, of
 * the sizes of cells, and of the cells themselves. Sizes are limited. */
EXPORTED void rtfusion_compare(const Memory *memory, const Frame *frame, int32_t largest_pixel, int32_t largest_cell,
                               int16_t *cell_peak, int16_t *pixel_size, int16_t *cell_size, int16_t *cell_mean) {
    size_t columns = (size_t)(memory->width_px / BLOCK);
    memset(scratch(memory, LARGEST), 0, columns * 2 * sizeof(int16_t));
    for (int row = 0; row < memory->height_px / BLOCK; row++) {
        size_t first = (size_t)row * columns;
        compare(memory, frame, row, (int16_t)largest_pixel, (int16_t)largest_cell, cell_peak + first, pixel_size + first,
                cell_size + first, cell_mean + first);
    }
}

/* The weight of a frame in every block, (rows, columns), by what `rtfusion_compare` gives, each averaged over 3 x 3 blocks but the
 * first, and by the frames since the gate of a block was open, at most `oldest`; both tables go by these. Gives the number of blocks
 * in which something moves. */
EXPORTED int32_t rtfusion_weigh(const Memory *memory, const int16_t *cell_peak, const int16_t *pixel_size,
                                const int16_t *cell_size, const int16_t *cell_mean, const Ramp *ramps, const uint8_t *firmness,
                                const uint8_t *by_age, int32_t oldest, uint8_t *ages, uint8_t *weights) {
    const int16_t *const figures[4] = {cell_peak, pixel_size, cell_size, cell_mean};
    int columns = memory->width_px / BLOCK;
    uint8_t *firm = (uint8_t *)scratch(memory, LINES);
    int32_t moving = 0;
    for (int row = 0; row < memory->height_px / BLOCK; row++) {
        size_t first = (size_t)row * (size_t)columns;
        for (int x = 0; x < columns; x++) firm[x] = firmness[ages[first + (size_t)x]];
        gate_row(memory, figures, ramps, firm, row, weights);
        moving += weigh_row(by_age, oldest, columns, ages + first, weights + first);
    }
    return moving;
}

/* Average a frame in, by the weights of blocks, (rows, columns), in 16ths, and give what is shown. */
EXPORTED void rtfusion_average(const Memory *memory, const Frame *frame, const uint8_t *weights, uint8_t *out) {
    int width = memory->width_px, columns = width / BLOCK, rows = memory->height_px / BLOCK;
    int16_t *lines[3];
    for (int line = 0; line < 3; line++) lines[line] = (int16_t *)scratch(memory, LINES + line);
    spread(memory, weights, lines[0]);
    for (int y = 0; y < memory->height_px; y++) {
        int row = y / BLOCK, phase = y % BLOCK;
        if (row >= rows) row = rows - 1, phase = BLOCK - 1; /* the rows beside whole blocks */
        if (phase == 0 && row + 1 < rows) spread(memory, weights + (size_t)(row + 1) * (size_t)columns, lines[(row + 1) % 3]);
        int other = phase < BLOCK / 2 ? row - 1 : row + 1;
        if (other < 0 || other >= rows) other = row;
        average(memory, frame, y, lines[row % 3], lines[other % 3], FAR_EIGHTHS[phase], out + (size_t)y * (size_t)width);
    }
}

/* A (height, width, 3) picture with another luminance, and its chroma as it was. */
EXPORTED void rtfusion_compose(const uint8_t *visible, ptrdiff_t visible_stride_bytes, const uint8_t *was,
                               ptrdiff_t was_stride_bytes, const uint8_t *now, ptrdiff_t now_stride_bytes, uint8_t *out,
                               int32_t width_px, int32_t height_px) {
    for (int y = 0; y < height_px; y++)
        shift(visible + y * visible_stride_bytes, was + y * was_stride_bytes, now + y * now_stride_bytes,
              out + (size_t)y * 3 * (size_t)width_px, width_px);
}

/* The same with a share of its chroma, (height, width) without gaps. */
EXPORTED void rtfusion_tint(const uint8_t *visible, ptrdiff_t visible_stride_bytes, const uint8_t *was,
                            ptrdiff_t was_stride_bytes, const uint8_t *now, ptrdiff_t now_stride_bytes, const uint8_t *share,
                            uint8_t *out, int32_t width_px, int32_t height_px) {
    for (int y = 0; y < height_px; y++)
        tint(visible + y * visible_stride_bytes, was + y * was_stride_bytes, now + y * now_stride_bytes,
             share + (size_t)y * (size_t)width_px, out + (size_t)y * 3 * (size_t)width_px, width_px);
}

/* Values that differ from the ones shown before by 1 at most stay as they were shown. */
EXPORTED void rtfusion_hold(uint8_t *image, const uint8_t *shown, size_t count) { hold(image, shown, count); }

/* Smooth the steps between rows of blocks; the first border lies four rows below `first`. */
EXPORTED void rtfusion_smooth(uint8_t *first, ptrdiff_t stride_bytes, int32_t width_px, int32_t borders, int32_t largest) {
    for (int border = 0; border < borders; border++)
        smooth(first + (ptrdiff_t)border * 8 * stride_bytes, stride_bytes, width_px, (int16_t)largest);
}
