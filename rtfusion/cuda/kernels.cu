// What is done to the pixels before and after the network. `twin.py` says the same in NumPy, and a test holds the two together.
//
// One thread per pixel, blocks of 32 x 8. Images are rows without gaps. The network's planes are padded to its stride by
// repeating the edge. Compile with --fmad=false: then the arithmetic is that of the twin, bit by bit.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned long long u64;

#define BLOCK_WIDTH 32
#define BLOCK_HEIGHT 8
#define SCALAR_STEP 64  // floats between two scalar inputs: each stands at an address that is a multiple of 256 bytes

// Full-range BT.601 in 15-bit fixed point, as OpenCV's BGR2GRAY.
__device__ static int luminance(const u8* visible, int channels, int at) {
    if (channels == 1) return visible[at];
    const u8* bgr = visible + 3 * at;
    return (3735 * bgr[0] + 19235 * bgr[1] + 9798 * bgr[2] + 16384) >> 15;
}

__device__ static int clamped(int value, int last) { return value < 0 ? 0 : value > last ? last : value; }

// The gray level of one thermal pixel; outside of the image its edge is repeated.
__device__ static float level(const void* thermal, int bytes, int width, int height, const u8* levels, int x, int y) {
    int at = clamped(y, height - 1) * width + clamped(x, width - 1);
    return levels[bytes == 2 ? ((const u16*)thermal)[at] : ((const u8*)thermal)[at]];
}

// Sums over a block, added to what all blocks share.
__device__ static void add_up(int visible, int thermal, u64* sums) {
    __shared__ int part[2][BLOCK_WIDTH * BLOCK_HEIGHT];
    int own = threadIdx.y * BLOCK_WIDTH + threadIdx.x;
    part[0][own] = visible;
    part[1][own] = thermal;
    for (int half = BLOCK_WIDTH * BLOCK_HEIGHT / 2; half > 0; half /= 2) {
        __syncthreads();
        if (own < half) {
            part[0][own] += part[0][own + half];
            part[1][own] += part[1][own + half];
        }
    }
    __syncthreads();
    if (own < 2) atomicAdd(&sums[own], (u64)part[own][0]);
}

// Before the network: luminance of the visible image; thermal counts to gray levels by a table, moved onto the visible grid.
// `source_x`, `source_y` say where in the thermal image each pixel of the grid lies, pixel centers at integers; null: they agree.
extern "C" __global__ void prepare(const u8* visible, int channels, const void* thermal, int thermal_bytes,
                                   int thermal_width, int thermal_height, const u8* levels, const float* source_x,
                                   const float* source_y, int width, int height, int padded_width, int padded_height,
                                   float* visible_y, float* thermal_y, u8* registered, u64* sums) {
    int column = blockIdx.x * BLOCK_WIDTH + threadIdx.x, row = blockIdx.y * BLOCK_HEIGHT + threadIdx.y;
    int counted_visible = 0, counted_thermal = 0;
    if (column < padded_width && row < padded_height) {
        int x = clamped(column, width - 1), y = clamped(row, height - 1), at = y * width + x;
        float from_x = source_x ? source_x[at] : x, from_y = source_y ? source_y[at] : y;
        int left = (int)floorf(from_x), top = (int)floorf(from_y);
        float right_part = from_x - left, lower_part = from_y - top;
        float corner[4];
        for (int i = 0; i < 4; ++i)
            corner[i] =
                level(thermal, thermal_bytes, thermal_width, thermal_height, levels, left + (i & 1), top + (i >> 1));
        float upper = (1.0f - right_part) * corner[0] + right_part * corner[1];
        float lower = (1.0f - right_part) * corner[2] + right_part * corner[3];
        int t = (int)((1.0f - lower_part) * upper + lower_part * lower + 0.5f);
        int v = luminance(visible, channels, at);
        visible_y[row * padded_width + column] = v / 255.0f;
        thermal_y[row * padded_width + column] = t / 255.0f;
        if (column < width && row < height) {
            registered[at] = t;
            counted_visible = v;
            counted_thermal = t;
        }
    }
    add_up(counted_visible, counted_thermal, sums);
}

// The scalar inputs of the network, by one thread: dials as they were set (`wanted`, after the share), and the two means of the
// scene, which move by a share of the way from frame to frame. `mean_of[i]`: 0 visible, 1 thermal, else a dial.
extern "C" __global__ void scene(const float* wanted, const int* mean_of, int count, int pixels, u64* sums, float* means,
                                 float* scalars) {
    float share = wanted[0];
    for (int band = 0; band < 2; ++band) {
        float present = (float)((double)sums[band] / pixels / 255.0);
        means[band] = share >= 1.0f ? present : means[band] + share * (present - means[band]);
        sums[band] = 0;
    }
    for (int i = 0; i < count; ++i)
        scalars[i * SCALAR_STEP] = mean_of[i] == 0 || mean_of[i] == 1 ? means[mean_of[i]] : wanted[1 + i];
}

// After the network: the fused luminance, where both cameras see (`inside`, 0 to 1; null: everywhere), with the chroma of the
// visible image. In Y'CbCr a step in Y with Cb and Cr kept is the same step in B, G and R.
extern "C" __global__ void compose(const u8* visible, int channels, const float* fused_y, const float* inside, int width,
                                   int height, int padded_width, u8* image) {
    int x = blockIdx.x * BLOCK_WIDTH + threadIdx.x, y = blockIdx.y * BLOCK_HEIGHT + threadIdx.y;
    if (x >= width || y >= height) return;
    int at = y * width + x, before = luminance(visible, channels, at);
    float fused = rintf(fminf(fmaxf(fused_y[y * padded_width + x] * 255.0f, 0.0f), 255.0f));
    if (inside) fused = rintf(inside[at] * fused + (1.0f - inside[at]) * before);
    for (int channel = 0; channel < 3; ++channel)
        image[3 * at + channel] = clamped((channels == 1 ? before : visible[3 * at + channel]) + (int)fused - before, 255);
}
