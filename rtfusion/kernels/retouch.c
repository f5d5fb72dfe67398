/* What a wish does to every pixel of a fused luminance, in one pass: its fine detail lifted or cored, its contrast and level
 * changed, a share of either band added, a curve at last. The shares are smooth: they are given for cells of CELL pixels a side and
 * interpolated. The form in OpenCV, which gives the same within a gray level, is in rtfusion/fusion/retouch.py. C11, little-endian.
 */

#include <stddef.h>
#include <stdint.h>

#include "vectorized.h"

enum { CELL = 8, OWN = 0, PLUS, THERMAL, VISIBLE, FINE, CORE, SHARES };

/* Kept equal to rtfusion/kernels/retouch.py. */
typedef struct {
    int32_t width_px, height_px, columns, rows;
    const float *shares[SHARES]; /* (rows, columns); none but OWN and PLUS need be there */
    float core_levels, kept_levels; /* what is cored, and what is not lifted */
    float lift, dark_level, press, bright_level; /* of the curve */
    float *scratch;                 /* (2 * SHARES + 2, columns * CELL + CELL) */
} Retouch;

static const float NEARER[CELL] = {0.0625f, 0.1875f, 0.3125f, 0.4375f, 0.5625f, 0.6875f, 0.8125f, 0.9375f};

static inline float *line_of(const Retouch *how, int index) {
    return how->scratch + (size_t)index * (size_t)(how->columns * CELL + CELL);
}

/* One row of cells, brought to every column of pixels. */
VECTORIZED static void widen(const float *restrict cells, float *restrict out, int columns) {
    for (int k = 0; k < CELL / 2; k++) out[k] = cells[0], out[columns * CELL - CELL / 2 + k] = cells[columns - 1];
    for (int column = 0; column + 1 < columns; column++) {
        float left = cells[column], step = cells[column + 1] - left;
        float *at = out + CELL / 2 + column * CELL;
        for (int k = 0; k < CELL; k++) at[k] = left + step * NEARER[k];
    }
}

static inline float limited(float value, float largest) {
    value = value < largest ? value : largest;
    return value > -largest ? value : -largest;
}

/* A row of pixels less its surroundings, weighted 1 2 1 by 1 2 1; at its ends a pixel stands for the one that is missing. */
VECTORIZED static void differ(const uint8_t *restrict above, const uint8_t *restrict here, const uint8_t *restrict below,
                              int16_t *restrict sums, float *restrict out, int width) {
    for (int x = 0; x < width; x++) sums[x + 1] = (int16_t)(above[x] + 2 * here[x] + below[x]);
    sums[0] = sums[1], sums[width + 1] = sums[width];
    for (int x = 0; x < width; x++) {
        int16_t near = (int16_t)(sums[x] + 2 * sums[x + 1] + sums[x + 2]);
        out[x] = (float)(int16_t)(16 * here[x] - near) * 0.0625f;
    }
}

static inline float between(const float *upper, const float *lower, int x, float share) {
    return upper[x] + (lower[x] - upper[x]) * share;
}

/* `out` holds the differences, and gets the pixels with what is made of them. */
VECTORIZED static void refine(const uint8_t *restrict pixels, const float *restrict lift_up, const float *restrict lift_low,
                              const float *restrict core_up, const float *restrict core_low, float share, float kept,
                              float cored, float *restrict out, int width) {
    for (int x = 0; x < width; x++) {
        float d = out[x], lift = between(lift_up, lift_low, x, share), core = between(core_up, core_low, x, share);
        out[x] = (float)pixels[x] + lift * (d - limited(d, kept)) - core * limited(d, cored);
    }
}

VECTORIZED static void as_float(const uint8_t *restrict pixels, float *restrict out, int width) {
    for (int x = 0; x < width; x++) out[x] = (float)pixels[x];
}

VECTORIZED static void scale(const float *restrict own_up, const float *restrict own_low, const float *restrict plus_up,
                             const float *restrict plus_low, float share, float *restrict out, int width) {
    for (int x = 0; x < width; x++)
        out[x] = out[x] * between(own_up, own_low, x, share) + between(plus_up, plus_low, x, share);
}

VECTORIZED static void add(const uint8_t *restrict pixels, const float *restrict up, const float *restrict low, float share,
                           float *restrict out, int width) {
    for (int x = 0; x < width; x++) out[x] = out[x] + (float)pixels[x] * between(up, low, x, share);
}

/* The dark lifted and the bright pressed together, and all of it rounded. */
VECTORIZED static void finish(const float *restrict values, float lift, float darkness, float press, float bright,
                              uint8_t *restrict out, int width) {
    for (int x = 0; x < width; x++) {
        float value = values[x] > 0.0f ? values[x] : 0.0f;
        value = value + lift * value / (1.0f + value * value * darkness);
        float above = value > bright ? value - bright : 0.0f;
        value = value - press * (above * above) + 0.5f;
        value = value > 0.0f ? value : 0.0f;
        value = value < 255.0f ? value : 255.0f;
        out[x] = (uint8_t)(int32_t)value;
    }
}

/* A (height, width) picture by the wish; it may not be `out`, which has no gaps. */
EXPORTED void rtfusion_retouch(const Retouch *how, const uint8_t *fused, ptrdiff_t fused_stride, const uint8_t *thermal,
                               ptrdiff_t thermal_stride, const uint8_t *visible, ptrdiff_t visible_stride, uint8_t *out) {
    int width = how->width_px, height = how->height_px, rows = how->rows, widened = -1;
    float *values = line_of(how, 2 * SHARES);
    int16_t *sums = (int16_t *)line_of(how, 2 * SHARES + 1);
    float darkness = 1.0f / (how->dark_level * how->dark_level);
    for (int y = 0; y < height; y++) {
        int upper = (y - CELL / 2 < 0 ? 0 : (y - CELL / 2) / CELL);
        if (upper > rows - 1) upper = rows - 1;
        int lower = y < CELL / 2 ? 0 : upper + 1 < rows ? upper + 1 : rows - 1;
        float share = NEARER[(y + CELL / 2) % CELL];
        for (int row = widened + 1; row <= lower; row++)
            for (int which = 0; which < SHARES; which++)
                if (how->shares[which])
                    widen(how->shares[which] + (size_t)row * (size_t)how->columns, line_of(how, 2 * which + row % 2),
                          how->columns);
        if (lower > widened) widened = lower;
        const uint8_t *here = fused + y * fused_stride;
        uint8_t *made = out + (size_t)y * (size_t)width;
#define UP(which) line_of(how, 2 * which + upper % 2)
#define LOW(which) line_of(how, 2 * which + lower % 2)
        if (how->shares[FINE]) {
            differ(y ? here - fused_stride : here, here, y + 1 < height ? here + fused_stride : here, sums, values, width);
            refine(here, UP(FINE), LOW(FINE), UP(CORE), LOW(CORE), share, how->kept_levels, how->core_levels, values, width);
        } else {
            as_float(here, values, width);
        }
        scale(UP(OWN), LOW(OWN), UP(PLUS), LOW(PLUS), share, values, width);
        if (how->shares[THERMAL]) add(thermal + y * thermal_stride, UP(THERMAL), LOW(THERMAL), share, values, width);
        if (how->shares[VISIBLE]) add(visible + y * visible_stride, UP(VISIBLE), LOW(VISIBLE), share, values, width);
        finish(values, how->lift, darkness, how->press, how->bright_level, made, width);
    }
}
