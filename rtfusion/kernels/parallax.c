/* Where everything of the thermal picture lies along the line of a rig: the structure of both pictures, how alike they are with
 * every displacement, smoothed within the edges of the visible picture, and the best of them. The forms in OpenCV, which give the
 * same but for rounding, are in rtfusion/registration/likeness.py. C11.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "vectorized.h"

/* As in rtfusion/registration/structure.py and likeness.py: halves of the windows, in pixels or cells. */
enum { NOISE = 4, POOL = 6, WINDOW = 2, GUIDE = 3, CHANNELS = 4, STRIDE = 2, PHASES = STRIDE * STRIDE, MARGIN = 16 };
enum { PRODUCT, OWN, OTHER, SEEN, PLANES };

/* One rig and one size of picture; the memory belongs to the caller. Kept equal to rtfusion/kernels/parallax.py. */
typedef struct {
    int32_t width_px, height_px; /* of the pictures, multiples of 2 * STRIDE; a cell is STRIDE pixels wide */
    int32_t count, beyond;       /* of the displacements; cells of nothing around each plane of `there`, as far as they reach */
    const float *x_px, *y_px;    /* (count) displacements, in pixels of the pictures */
    const float *noise, *pool;   /* (NOISE + 1), (POOL + 1): the weights of the windows, from the middle on */
    float floor_share, least_gradient, edge;
    int32_t is_dense;
    float *lines;    /* (4 + CHANNELS, width + 2 * MARGIN) */
    float *smooth;   /* (height, width) */
    float *pooled;   /* (CHANNELS, height + 2 * POOL, width): mirrored beyond the first and the last row */
    float *here;     /* (CHANNELS + 1, rows, columns): the visible structure of every cell, and its square */
    float *there;    /* (CHANNELS + 1, PHASES, rows + 2 beyond, columns + 2 beyond): the thermal one, and where it is seen */
    float *sums;     /* (count, 2 * WINDOW + 1, PLANES, columns): of the rows around one */
    float *likeness; /* (count, rows, columns) */
    float *known;    /* (count + 2, columns): how far each is known in one row, the sum of it, and the mean likeness */
    float *least;    /* (rows, columns): how far all of them are known */
    float *guide;    /* (8, rows / 2, columns / 2) */
} Search;

static inline int mirrored(int index, int count) {
    return index < 0 ? -index : index >= count ? 2 * (count - 1) - index : index;
}

static inline int clamped(int index, int count) { return index < 0 ? 0 : index >= count ? count - 1 : index; }
static inline float magnitude(float value) { return __builtin_fabsf(value); }
static inline float larger(float a, float b) { return a > b ? a : b; }
static inline float *line(const Search *search, int index) {
    return search->lines + (size_t)index * (size_t)(search->width_px + 2 * MARGIN) + MARGIN;
}

/* Mirror the ends of a line. */
static inline void lengthen(float *values, int count, int reach) {
    for (int i = 1; i <= reach; i++) values[-i] = values[i], values[count - 1 + i] = values[count - 1 - i];
}

/* A symmetric window along a line that was lengthened. */
static inline void pool_along(const float *restrict values, const float *restrict weights, int reach, int count, float *restrict out) {
    for (int x = 0; x < count; x++) {
        float sum = weights[0] * values[x];
        for (int i = 1; i <= reach; i++) sum += weights[i] * (values[x - i] + values[x + i]);
        out[x] = sum;
    }
}

static inline float *pooled_row(const Search *search, int channel, int y) {
    return search->pooled + ((size_t)channel * (size_t)(search->height_px + 2 * POOL) + (size_t)(y + POOL)) * (size_t)search->width_px;
}

/* A symmetric window across the rows of a plane, around one of them; the squares are added up. */
static inline void pool_across(const float *restrict middle, const float *restrict weights, int width, float *restrict out,
                               float *restrict squares) {
    for (int x = 0; x < width; x++) {
        float sum = weights[0] * middle[x];
        for (int i = 1; i <= POOL; i++) sum += weights[i] * (middle[x - i * width] + middle[x + i * width]);
        out[x] = sum;
        squares[x] += sum * sum;
    }
}

VECTORIZED static void smooth_row(const Search *search, const uint8_t *gray, int y, float *out) {
    int width = search->width_px, height = search->height_px;
    float *restrict sum = line(search, 0);
    const uint8_t *restrict middle = gray + (size_t)y * (size_t)width;
    for (int x = 0; x < width; x++) sum[x] = search->noise[0] * (float)middle[x];
    for (int i = 1; i <= NOISE; i++) {
        const uint8_t *restrict above = gray + (size_t)mirrored(y - i, height) * (size_t)width;
        const uint8_t *restrict below = gray + (size_t)mirrored(y + i, height) * (size_t)width;
        float weight = search->noise[i];
        for (int x = 0; x < width; x++) sum[x] += weight * (float)(above[x] + below[x]);
    }
    lengthen(sum, width, NOISE);
    pool_along(sum, search->noise, NOISE, width, out);
}

/* How strong the gradient is across, along and on the two diagonals. */
static inline void directions(const float *restrict means, const float *restrict steps, int width, float *restrict across,
                              float *restrict rising, float *restrict along, float *restrict falling) {
    const float half = 0.70710678f;
    for (int x = 0; x < width; x++) {
        float dx = means[x + 1] - means[x - 1], dy = 3.0f * (steps[x - 1] + steps[x + 1]) + 10.0f * steps[x];
        across[x] = magnitude(dx);
        rising[x] = half * magnitude(dx + dy);
        along[x] = magnitude(dy);
        falling[x] = half * magnitude(dx - dy);
    }
}

/* The gradient of one row in four directions, pooled along it. */
VECTORIZED static void edges_of_row(const Search *search, int y) {
    int width = search->width_px, height = search->height_px;
    const float *restrict above = search->smooth + (size_t)mirrored(y - 1, height) * (size_t)width;
    const float *restrict here = search->smooth + (size_t)y * (size_t)width;
    const float *restrict below = search->smooth + (size_t)mirrored(y + 1, height) * (size_t)width;
    float *restrict means = line(search, 0), *restrict steps = line(search, 1);
    for (int x = 0; x < width; x++) {
        means[x] = (3.0f * (above[x] + below[x]) + 10.0f * here[x]) * (1.0f / 32.0f);
        steps[x] = (below[x] - above[x]) * (1.0f / 32.0f);
    }
    lengthen(means, width, 1);
    lengthen(steps, width, 1);
    directions(means, steps, width, line(search, 4), line(search, 5), line(search, 6), line(search, 7));
    for (int channel = 0; channel < CHANNELS; channel++) {
        float *values = line(search, 4 + channel);
        lengthen(values, width, POOL);
        pool_along(values, search->pool, POOL, width, pooled_row(search, channel, y));
    }
}

/* One row of what is pooled across rows, in the lines from 4 on; gives the sum of its lengths. */
VECTORIZED static float pool_row(const Search *search, int y) {
    int width = search->width_px;
    float *length = line(search, 0);
    for (int x = 0; x < width; x++) length[x] = 0.0f;
    for (int channel = 0; channel < CHANNELS; channel++)
        pool_across(pooled_row(search, channel, y), search->pool, width, line(search, 4 + channel), length);
    float parts[MARGIN] = {0}, sum = 0.0f;
    int x = 0;
    for (; x + MARGIN <= width; x += MARGIN)
        for (int i = 0; i < MARGIN; i++) parts[i] += __builtin_sqrtf(length[x + i]);
    for (; x < width; x++) sum += __builtin_sqrtf(length[x]);
    for (int i = 0; i < MARGIN; i++) sum += parts[i];
    return sum;
}

/* Every second value of a row, from one on. */
VECTORIZED static void every_second(const float *restrict from, int count, float *restrict to) {
    for (int x = 0; x < count; x++) to[x] = from[STRIDE * x];
}

/* Make channels of gradients shares of what there is, up to a floor; `seen`, where there is one, hides what is not. */
VECTORIZED static void share(float *channels, size_t plane, size_t count, float floor, const float *restrict seen) {
    float *restrict a = channels, *restrict b = a + plane, *restrict c = b + plane, *restrict d = c + plane;
    for (size_t x = 0; x < count; x++) {
        float gain = seen[x] / (__builtin_sqrtf(a[x] * a[x] + b[x] * b[x] + c[x] * c[x] + d[x] * d[x]) + floor);
        a[x] *= gain;
        b[x] *= gain;
        c[x] *= gain;
        d[x] *= gain;
    }
}

VECTORIZED static void square(const float *channels, size_t plane, float *restrict out) {
    const float *restrict a = channels, *restrict b = a + plane, *restrict c = b + plane, *restrict d = c + plane;
    for (size_t x = 0; x < plane; x++) out[x] = a[x] * a[x] + b[x] * b[x] + c[x] * c[x] + d[x] * d[x];
}

static void mirror_row(const Search *search, int from, int to) {
    for (int channel = 0; channel < CHANNELS; channel++)
        memcpy(pooled_row(search, channel, to), pooled_row(search, channel, from), (size_t)search->width_px * sizeof(float));
}

/* The pooled gradients of a picture; the rows and columns of each phase go to their planes, `phases` of them. Gives the floor. */
static float pooled(const Search *search, const uint8_t *gray, float *to, int phases, int beyond) {
    int width = search->width_px, height = search->height_px, rows = height / STRIDE, columns = width / STRIDE;
    size_t stride = (size_t)(columns + 2 * beyond), plane = stride * (size_t)(rows + 2 * beyond);
    double total = 0.0;
    for (int y = 0; y < height; y++) smooth_row(search, gray, y, search->smooth + (size_t)y * (size_t)width);
    for (int made = 0; made < height + POOL; made++) { /* rows are pooled as soon as all that they need is there */
        if (made < height) edges_of_row(search, made);
        if (made >= 1 && made <= POOL) mirror_row(search, made, -made);
        if (made >= height - 1 - POOL && made < height - 1) mirror_row(search, made, 2 * (height - 1) - made);
        int y = made - POOL;
        if (y < 0) continue;
        total += (double)pool_row(search, y);
        for (int phase = y % STRIDE * STRIDE; phase < y % STRIDE * STRIDE + STRIDE && phase < phases; phase++) {
            size_t at = (size_t)phase * plane + (size_t)(y / STRIDE + beyond) * stride + (size_t)beyond;
            for (int channel = 0; channel < CHANNELS; channel++)
                every_second(line(search, 4 + channel) + phase % STRIDE, columns,
                             to + (size_t)channel * (size_t)phases * plane + at);
            if (phases == 1) break;
        }
    }
    float floor = search->floor_share * (float)(total / ((double)width * (double)height));
    return larger(floor, search->least_gradient);
}

/* Where one displacement leads: four planes and the place in them of the first cell, and their weights. */
typedef struct {
    size_t at[PHASES];
    float weights[PHASES];
} Taps;

static inline int floor_of(float value) { return (int)value - ((float)(int)value > value); }

static Taps taps_of(const Search *search, int index) {
    int rows = search->height_px / STRIDE, columns = search->width_px / STRIDE, beyond = search->beyond;
    size_t stride = (size_t)(columns + 2 * beyond), plane = stride * (size_t)(rows + 2 * beyond);
    int x = floor_of(search->x_px[index]), y = floor_of(search->y_px[index]);
    float right = search->x_px[index] - (float)x, low = search->y_px[index] - (float)y;
    Taps taps;
    for (int tap = 0; tap < PHASES; tap++) {
        /* counted from beyond the first cell: never negative */
        int column = x + tap % 2 + STRIDE * beyond, row = y + tap / 2 + STRIDE * beyond;
        taps.at[tap] = (size_t)(row % STRIDE * STRIDE + column % STRIDE) * plane + (size_t)(row / STRIDE) * stride +
                       (size_t)(column / STRIDE);
        taps.weights[tap] = (tap % 2 ? right : 1.0f - right) * (tap / 2 ? low : 1.0f - low);
    }
    return taps;
}

/* One row of both structures with one displacement, in `count` taps; planes lie so far apart. */
static inline void multiply(const float *restrict here, size_t cells, const float *restrict there, size_t channel, Taps taps, int count,
                            int columns, float *restrict product, float *restrict own, float *restrict other, float *restrict seen) {
    size_t first = taps.at[0], second = taps.at[1], third = taps.at[count - 2], fourth = taps.at[count - 1];
    for (int x = 0; x < columns; x++) {
        float values[CHANNELS + 1], of_both = 0.0f, square = 0.0f;
        for (int plane = 0; plane <= CHANNELS; plane++) {
            const float *at = there + (size_t)plane * channel + x;
            values[plane] = taps.weights[0] * at[first] + taps.weights[1] * at[second];
            if (count == PHASES) values[plane] += taps.weights[2] * at[third] + taps.weights[3] * at[fourth];
        }
        for (int plane = 0; plane < CHANNELS; plane++) {
            of_both += here[(size_t)plane * cells + (size_t)x] * values[plane];
            square += values[plane] * values[plane];
        }
        product[x] = of_both;
        own[x] = here[CHANNELS * cells + (size_t)x] * values[CHANNELS]; /* the last plane is the square of the others */
        other[x] = square;
        seen[x] = values[CHANNELS];
    }
}

static inline float *sums_of(const Search *search, int index, int row, int plane) {
    int rows = search->height_px / STRIDE, columns = search->width_px / STRIDE;
    int slot = mirrored(row, rows) % (2 * WINDOW + 1);
    return search->sums + (((size_t)index * (2 * WINDOW + 1) + (size_t)slot) * PLANES + (size_t)plane) * (size_t)columns;
}

/* That row, summed over the window along it. */
static inline void products(const Search *search, const Taps *taps, int count, int index, int row) {
    int rows = search->height_px / STRIDE, columns = search->width_px / STRIDE;
    size_t cells = (size_t)rows * (size_t)columns, stride = (size_t)(columns + 2 * search->beyond);
    multiply(search->here + (size_t)row * (size_t)columns, cells, search->there + (size_t)row * stride,
             PHASES * stride * (size_t)(rows + 2 * search->beyond), *taps, count, columns, line(search, PRODUCT),
             line(search, OWN), line(search, OTHER), line(search, SEEN));
    for (int plane = 0; plane < PLANES; plane++) {
        float *restrict values = line(search, plane), *restrict sums = sums_of(search, index, row, plane);
        lengthen(values, columns, WINDOW);
        for (int x = 0; x < columns; x++)
            sums[x] = values[x - 2] + values[x - 1] + values[x] + values[x + 1] + values[x + 2];
    }
}

VECTORIZED static void products_beside(const Search *search, const Taps *taps, int index, int row) {
    products(search, taps, 2, index, row);
}
VECTORIZED static void products_around(const Search *search, const Taps *taps, int index, int row) {
    products(search, taps, PHASES, index, row);
}

static inline void compare(const float *restrict product, const float *restrict own, const float *restrict other,
                           const float *restrict seen, int columns, float *restrict likeness, float *restrict known,
                           float *restrict total, float *restrict sum) {
    for (int x = 0; x < columns; x++) {
        float alike = product[x] / __builtin_sqrtf(own[x] * other[x] + 1e-4f);
        likeness[x] = alike;
        known[x] = seen[x];
        total[x] += seen[x];
        sum[x] += seen[x] * alike;
    }
}

/* How alike both are in one row with every displacement; what is not known is as alike as the rest of what is tried there. */
VECTORIZED static void likeness_row(const Search *search, int row) {
    int rows = search->height_px / STRIDE, columns = search->width_px / STRIDE, count = search->count;
    size_t cells = (size_t)rows * (size_t)columns, lies = (size_t)row * (size_t)columns;
    float *restrict total = search->known + (size_t)count * (size_t)columns, *restrict mean = total + columns;
    float *restrict least = search->least + lies;
    for (int x = 0; x < columns; x++) total[x] = mean[x] = 0.0f, least[x] = 1.0f;
    for (int index = 0; index < count; index++) {
        for (int plane = 0; plane < PLANES; plane++) {
            const float *restrict a = sums_of(search, index, row - 2, plane), *restrict b = sums_of(search, index, row - 1, plane);
            const float *restrict c = sums_of(search, index, row, plane), *restrict d = sums_of(search, index, row + 1, plane);
            const float *restrict e = sums_of(search, index, row + 2, plane);
            float *restrict out = line(search, plane);
            for (int x = 0; x < columns; x++) out[x] = (a[x] + b[x] + c[x] + d[x] + e[x]) * (1.0f / 25.0f);
        }
        compare(line(search, PRODUCT), line(search, OWN), line(search, OTHER), line(search, SEEN), columns,
                search->likeness + (size_t)index * cells + lies, search->known + (size_t)index * (size_t)columns, total, mean);
    }
    for (int x = 0; x < columns; x++) mean[x] /= larger(total[x], 1e-6f);
    for (int index = 0; index < count; index++) {
        const float *restrict known = search->known + (size_t)index * (size_t)columns;
        float *restrict likeness = search->likeness + (size_t)index * cells + lies;
        for (int x = 0; x < columns; x++) {
            likeness[x] = mean[x] + known[x] * (likeness[x] - mean[x]);
            least[x] = known[x] < least[x] ? known[x] : least[x];
        }
    }
}

/* -- within the edges of the visible picture ------------------------------------------------------------------------------- */

enum { SMALL, MIDDLE, SPREAD, VALUE, SLOPE, OFFSET, PART, GRAY_PART, GUIDES };

static inline float *guide(const Search *search, int plane) {
    return search->guide + (size_t)plane * (size_t)(search->width_px / 4) * (size_t)(search->height_px / 4);
}

/* The mean of 7 x 7 around every place of a small plane. */
VECTORIZED static void mean_around(const Search *search, const float *from, float *part, float *to) {
    int rows = search->height_px / 4, columns = search->width_px / 4;
    for (int y = 0; y < rows; y++) {
        float *restrict values = line(search, 0), *restrict out = part + (size_t)y * (size_t)columns;
        const float *restrict row = from + (size_t)y * (size_t)columns;
        for (int x = 0; x < columns; x++) values[x] = row[x];
        lengthen(values, columns, GUIDE);
        for (int x = 0; x < columns; x++)
            out[x] = values[x - 3] + values[x - 2] + values[x - 1] + values[x] + values[x + 1] + values[x + 2] + values[x + 3];
    }
    for (int y = 0; y < rows; y++) {
        float *restrict out = to + (size_t)y * (size_t)columns, *restrict sum = line(search, 0);
        const float *restrict middle = part + (size_t)y * (size_t)columns;
        for (int x = 0; x < columns; x++) sum[x] = middle[x];
        for (int i = 1; i <= GUIDE; i++) {
            const float *restrict above = part + (size_t)mirrored(y - i, rows) * (size_t)columns;
            const float *restrict below = part + (size_t)mirrored(y + i, rows) * (size_t)columns;
            for (int x = 0; x < columns; x++) sum[x] += above[x] + below[x];
        }
        for (int x = 0; x < columns; x++) out[x] = sum[x] * (1.0f / 49.0f);
    }
}

/* The means of 2 x 2 cells. */
VECTORIZED static void halve(const Search *search, const float *cells, float *to) {
    int rows = search->height_px / 4, columns = search->width_px / 4;
    for (int y = 0; y < rows; y++) {
        const float *restrict above = cells + (size_t)(2 * y) * (size_t)(2 * columns), *restrict below = above + 2 * columns;
        float *restrict out = to + (size_t)y * (size_t)columns;
        for (int x = 0; x < columns; x++)
            out[x] = (above[2 * x] + above[2 * x + 1] + below[2 * x] + below[2 * x + 1]) * 0.25f;
    }
}

VECTORIZED static void prepare_guide(const Search *search, const float *gray) {
    size_t count = (size_t)(search->width_px / 4) * (size_t)(search->height_px / 4);
    float *restrict small = guide(search, SMALL), *restrict middle = guide(search, MIDDLE);
    float *restrict spread = guide(search, SPREAD), *restrict squares = guide(search, VALUE);
    halve(search, gray, small);
    for (size_t x = 0; x < count; x++) squares[x] = small[x] * small[x];
    mean_around(search, small, guide(search, PART), middle);
    mean_around(search, squares, guide(search, PART), spread);
    for (size_t x = 0; x < count; x++) spread[x] = 1.0f / (spread[x] - middle[x] * middle[x] + search->edge);
}

/* One plane of cells becomes a linear function of the gray picture around every one of them. */
VECTORIZED static void guide_plane(const Search *search, const float *gray, float *plane) {
    int rows = search->height_px / 4, columns = search->width_px / 4;
    size_t count = (size_t)rows * (size_t)columns;
    const float *restrict small = guide(search, SMALL), *restrict middle = guide(search, MIDDLE);
    const float *restrict spread = guide(search, SPREAD);
    float *restrict value = guide(search, VALUE), *restrict slope = guide(search, SLOPE);
    float *restrict offset = guide(search, OFFSET), *restrict product = guide(search, GRAY_PART);
    halve(search, plane, value);
    for (size_t x = 0; x < count; x++) product[x] = small[x] * value[x];
    mean_around(search, value, guide(search, PART), offset);
    mean_around(search, product, guide(search, PART), slope);
    for (size_t x = 0; x < count; x++) {
        float steep = (slope[x] - middle[x] * offset[x]) * spread[x];
        slope[x] = steep;
        offset[x] -= steep * middle[x];
    }
    mean_around(search, slope, guide(search, PART), slope);
    mean_around(search, offset, guide(search, PART), offset);
    for (int y = 0; y < 2 * rows; y++) {
        size_t near = (size_t)(y / 2) * (size_t)columns;
        size_t far = (size_t)clamped(y / 2 + (y % 2 ? 1 : -1), rows) * (size_t)columns;
        float *restrict slopes = line(search, 0), *restrict offsets = line(search, 1);
        for (int x = 0; x < columns; x++) {
            slopes[x] = 0.75f * slope[near + (size_t)x] + 0.25f * slope[far + (size_t)x];
            offsets[x] = 0.75f * offset[near + (size_t)x] + 0.25f * offset[far + (size_t)x];
        }
        slopes[-1] = slopes[0], slopes[columns] = slopes[columns - 1];
        offsets[-1] = offsets[0], offsets[columns] = offsets[columns - 1];
        float *restrict out = plane + (size_t)y * (size_t)(2 * columns);
        const float *restrict levels = gray + (size_t)y * (size_t)(2 * columns);
        for (int x = 0; x < columns; x++) {
            float left = 0.75f * slopes[x] + 0.25f * slopes[x - 1], right = 0.75f * slopes[x] + 0.25f * slopes[x + 1];
            out[2 * x] = left * levels[2 * x] + 0.75f * offsets[x] + 0.25f * offsets[x - 1];
            out[2 * x + 1] = right * levels[2 * x + 1] + 0.75f * offsets[x] + 0.25f * offsets[x + 1];
        }
    }
}

static inline float vertex(float before, float at, float after) {
    float bend = before - 2.0f * at + after;
    float found = 0.5f * (before - after) / (bend < -1e-6f ? bend : -1e-6f);
    return found < -1.0f ? -1.0f : found > 1.0f ? 1.0f : found;
}

/* Hold one displacement against the best up to now: which that is, and what lies before and after it. */
static inline void climb(const float *restrict value, const float *restrict last, float index, int columns, float *restrict top,
                         float *restrict sum, float *restrict at, float *restrict before, float *restrict after) {
    for (int x = 0; x < columns; x++) {
        float now = value[x], highest = top[x], was = at[x], low = before[x], high = after[x];
        after[x] = was == index - 1.0f ? now : high;
        before[x] = now > highest ? last[x] : low;
        at[x] = now > highest ? index : was;
        top[x] = now > highest ? now : highest;
        sum[x] += now;
    }
}

/* The best displacement of every cell of a row, in steps from the first, between two of them by the vertex of a parabola;
 * and by how much more alike than in the mean both are there, as far as all that was tried is known. */
VECTORIZED static void best_of_row(const Search *search, int row, float *restrict best, float *restrict lead) {
    int rows = search->height_px / STRIDE, columns = search->width_px / STRIDE, count = search->count;
    size_t cells = (size_t)rows * (size_t)columns, lies = (size_t)row * (size_t)columns;
    float *top = line(search, 0), *sum = line(search, 1), *at = line(search, 3), *before = line(search, 4), *after = line(search, 5);
    const float *value = search->likeness + lies, *least = search->least + lies;
    for (int x = 0; x < columns; x++) top[x] = value[x] - 1.0f, sum[x] = 0.0f, at[x] = 0.0f;
    for (int index = 0; index < count; index++)
        climb(value + (size_t)index * cells, value + (size_t)(index ? index - 1 : 0) * cells, (float)index, columns,
              top, sum, at, before, after);
    for (int x = 0; x < columns; x++) {
        lead[x] = larger(top[x] - sum[x] / (float)count, 0.0f) * least[x];
        best[x] = at[x];
    }
    if (!search->is_dense) return;
    for (int x = 0; x < columns; x++) best[x] = at[x] + vertex(before[x], top[x], after[x]);
    for (int x = 0; x < columns; x++) {
        if (at[x] > 0.0f && at[x] < (float)(count - 1)) continue; /* the first and the last one: by the neighbor's neighbors */
        const float *middle = value + (at[x] > 0.0f ? (size_t)(count - 2) : 1) * cells + (size_t)x;
        best[x] = at[x] + vertex(middle[-(ptrdiff_t)cells], middle[0], middle[cells]);
    }
}

/* Of both pictures (height, width), as ranks, and the visible one (rows, columns) from 0 to 1. */
EXPORTED void rtfusion_search(const Search *search, const uint8_t *visible, const uint8_t *thermal, const float *gray, float *best,
                              float *lead) {
    int rows = search->height_px / STRIDE, columns = search->width_px / STRIDE, beyond = search->beyond;
    size_t cells = (size_t)rows * (size_t)columns;
    float floor = pooled(search, visible, search->here, 1, 0);
    float *whole = search->here + CHANNELS * cells;
    for (size_t x = 0; x < cells; x++) whole[x] = 1.0f;
    share(search->here, cells, cells, floor, whole);
    square(search->here, cells, whole);
    size_t padded = PHASES * (size_t)(columns + 2 * beyond) * (size_t)(rows + 2 * beyond);
    floor = pooled(search, thermal, search->there, PHASES, beyond);
    share(search->there, padded, padded, floor, search->there + CHANNELS * padded);
    for (int made = 0; made < rows + WINDOW; made++) { /* rows are compared as soon as all that they need is there */
        for (int index = 0; made < rows && index < search->count; index++) {
            Taps taps = taps_of(search, index);
            int is_level = taps.weights[2] == 0.0f && taps.weights[3] == 0.0f;
            (is_level ? products_beside : products_around)(search, &taps, index, made);
        }
        if (made >= WINDOW) likeness_row(search, made - WINDOW);
    }
    prepare_guide(search, gray);
    for (int index = 0; index < search->count; index++) guide_plane(search, gray, search->likeness + (size_t)index * cells);
    for (int row = 0; row < rows; row++)
        best_of_row(search, row, best + (size_t)row * (size_t)columns, lead + (size_t)row * (size_t)columns);
}
