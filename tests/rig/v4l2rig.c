/* v4l2rig: V4L2 capture devices in user space, for one dynamically linked process tree (LD_PRELOAD).
 *
 * Paths below /dev/video*, /dev/v4l, /sys/class/video4linux and /sys/devices/platform/v4l2rig are taken from $V4L2RIG/...
 * A node $V4L2RIG/dev/videoN is a text file of "key = value" lines that describe the device; $V4L2RIG/state/ID holds
 * further lines that override them and may be rewritten while a stream runs (faults, unplugging).
 * An open node is a memfd, so that mmap at the offsets of QUERYBUF simply works. Nothing runs in the background: whatever
 * a driver would have done since the last call is done at the start of the next one, frame by frame with the queue as it
 * then was, so a late program loses frames exactly as with vb2. Modelled on uvcvideo and videobuf2 of Linux 6.1.
 * Every frame is logged to $V4L2RIG/log/ID.csv.
 *
 * Keys of a camera; "off" ends one:
 *   stream: rate= ppm= phase_ms= first_ms= latency_ms= jitter_ms= delay_ms= sensor_hz= content_hz= content= still=N
 *           noise=AMPLITUDE FIRSTROW LASTROW  pad= quantization= ycbcr= buffers= nommap noparm
 *   stamps: stamp=soe|eof|unknown|copy|zero|const|back|reverse|ahead|realtime|badstart|jump  stamp_jitter_ms=  nosequence=1
 *   faults: freeze silent error lose=N short=PERCENT ffc corrupt=truncate|empty|garbage|middle|tail corrupt_every=N
 *           content=FILE nospace_with=CAMERA fail.open|S_FMT|STREAMON|DQBUF|mmap...=EBUSY|EIO|EPROTO...
 *           fails=N (so often only)  slow.S_FMT|STREAMON|STREAMOFF=MS
 *   code=top|bottom FIRSTROW LASTROW LOW HIGH: draws the time of exposure into a strip of the picture.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }
#define ORIG(ret, name, ...) static ret (*o_##name)(__VA_ARGS__)
ORIG(int, open, const char *, int, ...); ORIG(int, openat, int, const char *, int, ...);
ORIG(int, close, int); ORIG(int, ioctl, int, unsigned long, ...); ORIG(int, fcntl, int, int, ...); ORIG(int, dup, int);
ORIG(void *, mmap, void *, size_t, int, int, int, off_t); ORIG(int, munmap, void *, size_t);
ORIG(int, poll, struct pollfd *, nfds_t, int);
ORIG(int, select, int, fd_set *, fd_set *, fd_set *, struct timeval *);
ORIG(int, stat, const char *, struct stat *); ORIG(int, lstat, const char *, struct stat *); ORIG(int, fstat, int, struct stat *);
ORIG(int, fstatat, int, const char *, struct stat *, int); ORIG(int, access, const char *, int); ORIG(int, faccessat, int, const char *, int, int);
ORIG(ssize_t, readlink, const char *, char *, size_t); ORIG(ssize_t, readlinkat, int, const char *, char *, size_t);
ORIG(DIR *, opendir, const char *); ORIG(FILE *, fopen, const char *, const char *); ORIG(char *, realpath, const char *, char *);

static const char *root;
static pthread_mutex_t table_mu = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
    if (o_open) return;
#define GET(name) o_##name = real(#name)
    GET(openat); GET(close); GET(ioctl); GET(fcntl); GET(dup); GET(mmap); GET(munmap); GET(poll); GET(select); GET(stat); GET(lstat);
    GET(fstat); GET(fstatat); GET(access); GET(faccessat); GET(readlink); GET(readlinkat); GET(opendir); GET(fopen); GET(realpath);
    root = getenv("V4L2RIG");
    GET(open);
}
#define BEGIN() do { if (__builtin_expect(!o_open, 0)) begin(); } while (0)

/* ---- paths ------------------------------------------------------------------------------------------------------- */

static const char *redirected(const char *path, char *out) {
    static const char *const tops[] = {"/dev/video", "/dev/v4l", "/dev/media", "/sys/class/video4linux", "/sys/dev/char/81:",
                                       "/sys/devices/platform/v4l2rig", "/sys/devices/virtual/video4linux"};
    if (!root || !path || path[0] != '/') return path;
    for (size_t i = 0; i < sizeof tops / sizeof *tops; i++)
        if (!strncmp(path, tops[i], strlen(tops[i]))) {
            snprintf(out, PATH_MAX, "%s%s", root, path);
            return out;
        }
    return path;
}
static int is_node(const char *path) { return !strncmp(path, "/dev/video", 10) || !strncmp(path, "/dev/v4l/", 9); }

/* ---- devices ----------------------------------------------------------------------------------------------------- */

enum { MODES = 96, BUFS = 32, KEYS = 160, CTRLS = 16, FDS = 4096, MAPS = 128 };
struct kv { char key[32], value[224]; };
struct kvs { int n; struct kv at[KEYS]; };
struct content { char path[256]; uint8_t *base; size_t size, unit; int n; uint32_t *offset; };
struct mode { uint32_t fourcc; int w, h, rates; double hz[12]; int range, min_w, min_h, step_w, step_h; char file[224]; };
struct slot { int state; uint32_t used, flags, seq; int64_t stamp; };
struct ctrl { uint32_t id; int lo, hi, def, value; char name[32]; };
enum { IDLE, QUEUED, DONE };

struct handle {
    pthread_mutex_t mu;
    int refs, memfd, meta, dead, generation, minor;
    char id[48];
    struct kvs text, state;
    struct timespec state_time;
    int64_t state_checked;
    int nmodes; struct mode modes[MODES];
    int nctrls; struct ctrl ctrls[CTRLS];
    struct mode *mode;
    uint32_t w, h, bpl, size;
    double hz;
    int owns, lock_fd, stream_fd;
    int nbufs, streaming;
    uint32_t stride;
    uint8_t *mem; size_t mem_size;
    struct slot slot[BUFS];
    int queue[BUFS], nqueue, done[BUFS], ndone;
    int64_t next, began; uint64_t k; uint32_t seq;
    int64_t frozen;
    FILE *log;
};
static struct handle *fds[FDS];
static struct { void *at; size_t length; struct handle *h; } maps[MAPS];

static int64_t now_ns(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000LL + t.tv_nsec; }

static void parse(struct kvs *kvs, const char *path) {
    char line[512];
    FILE *f = o_fopen(path, "re");
    kvs->n = 0;
    if (!f) return;
    while (fgets(line, sizeof line, f) && kvs->n < KEYS) {
        char *eq = strchr(line, '='), *key = line + strspn(line, " \t");
        if (*key == '#' || !eq) continue;
        char *value = eq + 1 + strspn(eq + 1, " \t");
        for (char *e = eq; e > key && strchr(" \t=", e[0]); e--) e[0] = 0;
        value[strcspn(value, "\n")] = 0;
        snprintf(kvs->at[kvs->n].key, 32, "%s", key);
        snprintf(kvs->at[kvs->n++].value, 224, "%s", value);
    }
    fclose(f);
}
static const char *gets_(struct handle *h, const char *key) {
    for (int s = 0; s < 2; s++) {
        struct kvs *kvs = s ? &h->text : &h->state;
        for (int i = 0; i < kvs->n; i++) if (!strcmp(kvs->at[i].key, key)) return strcmp(kvs->at[i].value, "off") ? kvs->at[i].value : NULL;
    }
    return NULL;
}
static double getd(struct handle *h, const char *key, double def) { const char *v = gets_(h, key); return v && *v ? atof(v) : def; }
static int number(const char *name) {
    static const struct { const char *name; int number; } all[] = {
        {"EACCES", EACCES}, {"EPERM", EPERM}, {"EBUSY", EBUSY}, {"ENODEV", ENODEV}, {"ENOSPC", ENOSPC}, {"EIO", EIO}, {"EINVAL", EINVAL},
        {"ENOTTY", ENOTTY}, {"EPROTO", EPROTO}, {"EPIPE", EPIPE}, {"ETIMEDOUT", ETIMEDOUT}, {"ENOMEM", ENOMEM}, {"EAGAIN", EAGAIN},
        {"ENOENT", ENOENT}, {"EINTR", EINTR}, {"EMFILE", EMFILE}, {"EREMOTEIO", EREMOTEIO}, {"EILSEQ", EILSEQ}, {"ENXIO", ENXIO}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) if (!strcmp(all[i].name, name)) return all[i].number;
    return atoi(name);
}
static int fails(struct handle *h, const char *what) { /* fail.DQBUF = EIO */
    char key[40]; snprintf(key, sizeof key, "fail.%s", what);
    const char *v = gets_(h, key);
    if (!v || !*v) return 0;
    const char *often = gets_(h, "fails");
    if (often) { /* counted over all processes and openings, by the length of a file */
        char path[512]; struct stat st; snprintf(path, sizeof path, "%s/log/%s.fails", root, h->id);
        if (!o_stat(path, &st) && st.st_size >= atol(often)) return 0;
        FILE *f = o_fopen(path, "ae");
        if (f) { fputc('.', f); fclose(f); }
    }
    return number(v);
}
static uint32_t fourcc(const char *s) { char c[5] = "    "; memcpy(c, s, strcspn(s, "-") < 4 ? strcspn(s, "-") : 4); return v4l2_fourcc(c[0], c[1], c[2], c[3]); }
static int bits(uint32_t f) {
    switch (f) {
    case V4L2_PIX_FMT_GREY: return 8;
    case V4L2_PIX_FMT_NV12: case V4L2_PIX_FMT_NV21: case V4L2_PIX_FMT_YUV420: case V4L2_PIX_FMT_YVU420: return 12;
    case V4L2_PIX_FMT_MJPEG: case V4L2_PIX_FMT_JPEG: case V4L2_PIX_FMT_H264: return 0;
    case V4L2_PIX_FMT_RGB24: case V4L2_PIX_FMT_BGR24: return 24;
    default: return 16;
    }
}
static uint32_t line_bytes(struct handle *h, uint32_t f, int w) {
    uint32_t own = bits(f) == 0 ? 0 : bits(f) == 12 ? (uint32_t)w : (uint32_t)w * bits(f) / 8;
    return own ? own + (uint32_t)getd(h, "pad", 0) : 0;
}
static uint32_t image_bytes(struct handle *h, uint32_t f, int w, int ht) {
    if (!bits(f)) return (uint32_t)(w * ht * 2);
    return bits(f) == 12 ? line_bytes(h, f, w) * ht * 3 / 2 : line_bytes(h, f, w) * ht;
}

static void refresh(struct handle *h) { /* take over state/ID when it was rewritten */
    char path[512]; struct stat st; int64_t now = now_ns();
    if (h->state_checked && now - h->state_checked < 2000000) return;
    h->state_checked = now;
    snprintf(path, sizeof path, "%s/state/%s", root, h->id);
    if (o_stat(path, &st)) { h->state.n = 0; return; }
    if (st.st_mtim.tv_sec != h->state_time.tv_sec || st.st_mtim.tv_nsec != h->state_time.tv_nsec) {
        parse(&h->state, path);
        h->state_time = st.st_mtim;
    }
    if (h->generation < 0) h->generation = (int)getd(h, "generation", 0);
    if ((int)getd(h, "generation", 0) != h->generation) h->dead = 1;
}

static void set_mode(struct handle *h, struct mode *m, int w, int ht) {
    h->mode = m; h->w = w; h->h = ht; h->hz = m->rates ? m->hz[0] : 30;
    h->bpl = line_bytes(h, m->fourcc, w); h->size = image_bytes(h, m->fourcc, w, ht);
}

static struct handle *new_handle(const char *node, int flags, int *fd) {
    struct handle *h = calloc(1, sizeof *h);
    pthread_mutex_init(&h->mu, NULL);
    parse(&h->text, node);
    snprintf(h->id, sizeof h->id, "%s", gets_(h, "id") ? gets_(h, "id") : "camera");
    h->meta = gets_(h, "meta") != NULL;
    h->minor = (int)getd(h, "minor", 0);
    h->lock_fd = h->stream_fd = -1; h->frozen = -1; h->generation = -1;
    refresh(h);
    int error = fails(h, "open");
    if (error) { free(h); errno = error; return NULL; }
    for (int i = 0; i < h->text.n; i++) {
        const char *v = h->text.at[i].value; char cc[8], sz[32], rates[160] = "", file[224] = "";
        if (!strcmp(h->text.at[i].key, "mode") && h->nmodes < MODES) { /* mode = YUYV 640x480 30,15 FILE */
            struct mode *m = &h->modes[h->nmodes];
            if (sscanf(v, "%7s %31s %159s %223s", cc, sz, rates, file) < 3) continue;
            m->fourcc = fourcc(cc);
            if (strstr(cc, "-BE")) m->fourcc |= 1u << 31;
            m->range = sscanf(sz, "%dx%d-%dx%d/%dx%d", &m->min_w, &m->min_h, &m->w, &m->h, &m->step_w, &m->step_h) == 6;
            if (!m->range) sscanf(sz, "%dx%d", &m->w, &m->h);
            for (char *r = strtok(rates, ","); r && m->rates < 12; r = strtok(NULL, ",")) m->hz[m->rates++] = atof(r);
            snprintf(m->file, sizeof m->file, "%s", file);
            h->nmodes++;
        }
        if (!strcmp(h->text.at[i].key, "ctrl") && h->nctrls < CTRLS) { /* ctrl = ID MIN MAX DEFAULT NAME */
            struct ctrl *c = &h->ctrls[h->nctrls];
            if (sscanf(v, "%i %i %i %i %31[^\n]", (int *)&c->id, &c->lo, &c->hi, &c->def, c->name) == 5) { c->value = c->def; h->nctrls++; }
        }
    }
    if (h->nmodes) set_mode(h, &h->modes[0], h->modes[0].w, h->modes[0].h);
    *fd = memfd_create(h->id, MFD_CLOEXEC);
    if (*fd < 0 || *fd >= FDS) { free(h); errno = EMFILE; return NULL; }
    o_fcntl(*fd, F_SETFL, flags & O_NONBLOCK);
    if (!(flags & O_CLOEXEC)) o_fcntl(*fd, F_SETFD, 0);
    h->memfd = *fd; h->refs = 1;
    char path[512]; snprintf(path, sizeof path, "%s/log/%s.csv", root, h->id);
    h->log = o_fopen(path, "ae");
    if (h->log) setvbuf(h->log, NULL, _IOLBF, 4096);
    return h;
}
static void note(struct handle *h, const char *format, ...) {
    if (!h->log) return;
    va_list a; va_start(a, format);
    fprintf(h->log, "#%lld %d ", (long long)now_ns(), getpid()); vfprintf(h->log, format, a); fputc('\n', h->log);
    va_end(a);
}
static void let_go(struct handle *h) { /* table_mu held */
    if (--h->refs > 0) return;
    note(h, "release");
    if (h->mem) o_munmap(h->mem, h->mem_size);
    if (h->lock_fd >= 0) o_close(h->lock_fd);
    if (h->stream_fd >= 0) o_close(h->stream_fd);
    if (h->log) fclose(h->log);
    free(h);
}
static struct handle *of(int fd) { return fd >= 0 && fd < FDS ? __atomic_load_n(&fds[fd], __ATOMIC_ACQUIRE) : NULL; }

static int try_lock(const char *id, const char *kind, int *held) {
    char path[512]; snprintf(path, sizeof path, "%s/lock/%s.%s", root, id, kind);
    int fd = o_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB)) { if (fd >= 0) o_close(fd); return EBUSY; }
    if (held) *held = fd; else o_close(fd);
    return 0;
}
static int acquire(struct handle *h) { /* the streaming privilege of uvcvideo: one open file has it until it is released */
    if (h->owns) return 0;
    int error = try_lock(h->id, "owner", &h->lock_fd);
    h->owns = !error;
    return error;
}

/* ---- frames ------------------------------------------------------------------------------------------------------ */

static struct content *load(struct handle *h, const char *file) {
    static struct content all[64]; static int n; static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
    char path[512]; struct stat st; struct content *c = NULL;
    size_t unit = h->bpl ? (size_t)h->size / h->bpl * (h->bpl - (size_t)getd(h, "pad", 0)) : h->size;
    snprintf(path, sizeof path, file[0] == '/' ? "%s%s" : "%s/%s", file[0] == '/' ? "" : root, file);
    pthread_mutex_lock(&mu);
    for (int i = 0; i < n; i++) if (!strcmp(all[i].path, path) && (all[i].unit == unit || all[i].offset)) c = &all[i];
    if (!c && n < 64) {
        int fd = o_open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && !o_fstat(fd, &st) && st.st_size) {
            c = &all[n]; memset(c, 0, sizeof *c);
            c->base = o_mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0); c->size = st.st_size; c->unit = unit;
            snprintf(c->path, sizeof c->path, "%s", path);
            if (!bits(h->mode->fourcc)) { /* [u32 length][bytes] ... */
                c->offset = malloc(sizeof(uint32_t) * 100000);
                for (size_t at = 0; at + 4 < c->size && c->n < 100000; at += 4 + *(uint32_t *)(c->base + at)) c->offset[c->n++] = at;
            } else c->n = c->size / unit;
            n++;
        }
        if (fd >= 0) o_close(fd);
    }
    pthread_mutex_unlock(&mu);
    return c && c->n ? c : NULL;
}
static int64_t epoch(void) {
    static int64_t value;
    if (!value) {
        char path[512], text[64] = ""; snprintf(path, sizeof path, "%s/epoch", root);
        FILE *f = o_fopen(path, "re");
        if (f) { if (!fgets(text, sizeof text, f)) text[0] = 0; fclose(f); }
        value = atoll(text) ? atoll(text) : now_ns();
    }
    return value;
}
static uint32_t mix(uint64_t x) { x ^= x >> 33; x *= 0xff51afd7ed558ccdULL; x ^= x >> 33; x *= 0xc4ceb9fe1a85ec53ULL; return (uint32_t)(x >> 29); }
static double unit_random(struct handle *h, uint64_t k, int salt) { return mix(k * 77 + salt + strlen(h->id) * 1315423911u) / 4294967296.0; }
static double real_hz(struct handle *h) { double hz = getd(h, "rate", h->hz); return hz * (1 + getd(h, "ppm", 0) * 1e-6); }
static int64_t ready_at(struct handle *h) {
    return h->next + (int64_t)(1e6 * (getd(h, "latency_ms", 12) + getd(h, "jitter_ms", 0) * unit_random(h, h->k, 1)));
}

static void words_noise(uint16_t *p, size_t n, int amplitude, uint64_t seed) {
    uint64_t x = seed * 0x9E3779B97F4A7C15ULL + 88172645463325252ULL;
    for (size_t i = 0; i < n; i++) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; p[i] += (int)((x >> 20) % (2 * amplitude + 1)) - amplitude; }
}
/* code = top|bottom FIRSTROW LASTROW LOW HIGH: the time of exposure in ms, 16 bits between a light and a dark block, in a strip of the
 * picture in these rows; the strip at the other end is made neutral, so that both codes can be read in an average of two cameras */
static void draw_code(struct handle *h, uint8_t *to, int64_t t) {
    char side[8]; int first, last, low, high; const char *v = gets_(h, "code");
    if (!v || sscanf(v, "%7s %d %d %d %d", side, &first, &last, &low, &high) != 5) return;
    uint32_t value = (uint32_t)((int64_t)((t - epoch()) / 1e6 + 0.5) & 0xffff); int strip = (last - first) / 10, depth = bits(h->mode->fourcc);
    for (int y = 0; y < 2 * strip; y++) {
        int is_top = y < strip, row = is_top ? first + y : last - 2 * strip + y, coded = is_top == !strcmp(side, "top");
        for (uint32_t x = 0; x < h->w; x++) {
            uint32_t block = x * 18 / h->w; int on = block == 0 || (block < 17 && value >> (16 - block) & 1), level = coded ? (on ? high : low) : (low + high) / 2;
            if (depth == 8 || depth == 12) to[(size_t)row * h->bpl + x] = level;
            else if (high > 255) ((uint16_t *)(to + (size_t)row * h->bpl))[x] = level;
            else { int swapped = h->mode->fourcc == V4L2_PIX_FMT_UYVY; to[(size_t)row * h->bpl + 2 * x + swapped] = level; to[(size_t)row * h->bpl + 2 * x + !swapped] = 128; }
        }
    }
    if (depth == 12) for (int y = 0; y < strip; y++) /* NV12: no color in the strips */
        memset(to + (size_t)h->bpl * (h->h + first / 2 + (y < strip / 2 ? y : (last - first) / 2 - strip + y)), 128, h->w);
}

/* what the sensor saw at time t; the number of bytes */
static uint32_t expose(struct handle *h, uint8_t *to, int64_t t, int64_t *index) {
    double sensor_hz = getd(h, "sensor_hz", 0), content_hz = getd(h, "content_hz", 30);
    double scene = (t - epoch()) * 1e-9 - getd(h, "delay_ms", 0) * 1e-3;
    int64_t sensed = sensor_hz > 0 ? (int64_t)(scene * sensor_hz) : (int64_t)(scene * 1e4);
    if (sensor_hz > 0) scene = sensed / sensor_hz;
    int64_t at = (int64_t)(scene * content_hz + 1e-6);
    if (gets_(h, "freeze")) { if (h->frozen < 0) h->frozen = at; at = h->frozen; sensed = 0; } else h->frozen = -1;
    if (gets_(h, "still")) at = (int64_t)getd(h, "still", 0), sensed = 0; /* a scene that really stands still */
    const char *file = gets_(h, "content");
    struct content *c = load(h, file && *file ? file : h->mode->file);
    uint32_t used = h->size;
    *index = at;
    int64_t seen = gets_(h, "still") ? epoch() : epoch() + (int64_t)((gets_(h, "freeze") ? h->frozen / content_hz : scene) * 1e9);
    if (!c) { /* a moving gradient */
        for (uint32_t i = 0; i < h->size; i++) to[i] = (uint8_t)(i + at * 4);
    } else if (c->offset) {
        uint8_t *from = c->base + c->offset[at % c->n];
        used = *(uint32_t *)from;
        if (used > h->size) used = h->size;
        memcpy(to, from + 4, used);
    } else { /* rows as they are kept, into rows as the driver pads them */
        uint32_t pad = (uint32_t)getd(h, "pad", 0), rows = h->bpl ? h->size / h->bpl : 1, own = h->bpl - pad;
        for (uint32_t y = 0; y < rows; y++) memcpy(to + (size_t)y * h->bpl, c->base + (size_t)(at % c->n) * c->unit + (size_t)y * own, own);
    }
    if (bits(h->mode->fourcc) && !(c && c->offset)) draw_code(h, to, seen);
    const char *noise = gets_(h, "noise"); int amplitude, first, last; /* noise = AMPLITUDE FIRSTROW LASTROW, 16-bit words */
    if (noise && sscanf(noise, "%d %d %d", &amplitude, &first, &last) == 3 && amplitude > 0 && !gets_(h, "freeze") && !gets_(h, "still"))
        words_noise((uint16_t *)to + (size_t)first * h->bpl / 2, (size_t)(last - first) * h->bpl / 2, amplitude, sensed);
    if (gets_(h, "ffc") && bits(h->mode->fourcc) == 16) {
        int top = getd(h, "ffc_first", 0), end = getd(h, "ffc_last", h->h);
        for (size_t i = (size_t)top * h->bpl / 2; i < (size_t)end * h->bpl / 2; i++) ((uint16_t *)to)[i] = 29900 + (i * 7919 + sensed) % 5;
    }
    int rows = (int)getd(h, "lepton", 0); /* telemetry in the rows below */
    if (rows && (int)h->h > rows) {
        uint32_t up = (uint32_t)((t - epoch()) / 1000000 + 60000);
        uint16_t tel[480] = {[0] = 14, [1] = up & 0xffff, [2] = up >> 16, [3] = gets_(h, "ffc") ? 2 << 4 : 3 << 4, [20] = sensed & 0xffff,
                             [21] = sensed >> 16 & 0xffff, [24] = 30520, [208] = 1, [209] = 1};
        for (uint32_t y = rows; y < h->h; y++) for (uint32_t x = 0; x < h->w && (y - rows) * h->w + x < 480; x++)
            ((uint16_t *)(to + (size_t)y * h->bpl))[x] = tel[(y - rows) * h->w + x];
    }
    return used;
}

static void produce(struct handle *h, int64_t start, int64_t ready) {
    if (gets_(h, "silent")) return;
    uint32_t seq = h->seq++;
    int lose = (int)getd(h, "lose", 0);
    if (lose && h->k % lose == 0) { if (h->log) fprintf(h->log, "%u,-1,%lld,%lld,0,0,0,lost\n", seq, (long long)start, (long long)ready); return; }
    if (h->nqueue == 0) { if (h->log) fprintf(h->log, "%u,-1,%lld,%lld,0,0,0,nobuf\n", seq, (long long)start, (long long)ready); return; }
    int i = h->queue[0];
    memmove(h->queue, h->queue + 1, --h->nqueue * sizeof(int));
    struct slot *s = &h->slot[i]; int64_t index;
    uint8_t *to = h->mem + (size_t)i * h->stride;
    s->used = expose(h, to, start, &index);
    s->seq = seq;
    s->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC | V4L2_BUF_FLAG_TSTAMP_SRC_SOE;
    s->stamp = start + (int64_t)(1e6 * getd(h, "stamp_jitter_ms", 0) * (unit_random(h, h->k, 2) - 0.5));
    const char *kind = gets_(h, "stamp"), *v;
    if (kind) {
        if (!strcmp(kind, "eof")) { s->stamp = ready; s->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC; }
        if (!strcmp(kind, "unknown")) s->flags = 0;
        if (!strcmp(kind, "copy")) s->flags = V4L2_BUF_FLAG_TIMESTAMP_COPY;
        if (!strcmp(kind, "zero")) s->stamp = 0;
        if (!strcmp(kind, "const")) s->stamp = h->began;
        if (!strcmp(kind, "back") && h->k % 10 == 9) s->stamp -= 200000000;
        if (!strcmp(kind, "reverse")) s->stamp = 2 * h->began - s->stamp;
        if (!strcmp(kind, "jump") && h->k % 60 >= 30) s->stamp -= 300000000; /* half the time 0.3 s early */
        if (!strcmp(kind, "ahead")) s->stamp = ready + 20000000;
        if (!strcmp(kind, "badstart") && h->k < 3) s->stamp = 1000000;
        if (!strcmp(kind, "realtime")) { struct timespec t; clock_gettime(CLOCK_REALTIME, &t); s->stamp = t.tv_sec * 1000000000LL + t.tv_nsec; s->flags = 0; }
    }
    if ((v = gets_(h, "short"))) s->used = (uint32_t)(s->used * atof(v) / 100);
    if (gets_(h, "error")) s->flags |= V4L2_BUF_FLAG_ERROR;
    if ((v = gets_(h, "corrupt")) && (h->k % (int)getd(h, "corrupt_every", 1) == 0)) {
        if (!strcmp(v, "truncate")) s->used /= 2;
        if (!strcmp(v, "empty")) s->used = 0;
        if (!strcmp(v, "garbage")) for (uint32_t j = 0; j < s->used; j++) to[j] = mix(j + h->k * 131);
        if (!strcmp(v, "middle")) for (uint32_t j = s->used / 2; j < s->used / 2 + 300 && j < s->used; j++) to[j] = mix(j + h->k);
        if (!strcmp(v, "tail")) { memset(to + s->used, 0, 512 < h->size - s->used ? 512 : h->size - s->used); s->used += 512; }
    }
    s->state = DONE;
    h->done[h->ndone++] = i;
    if (h->log) fprintf(h->log, "%u,%lld,%lld,%lld,%lld,%u,%u,ok\n", seq, (long long)index, (long long)start, (long long)ready, (long long)s->stamp, s->used, s->flags);
}

static void advance(struct handle *h) { /* h->mu held */
    refresh(h);
    if (h->dead || !h->streaming) return;
    for (int64_t now = now_ns(); ready_at(h) <= now;) {
        produce(h, h->next, ready_at(h));
        h->k++;
        h->next += (int64_t)(1e9 / real_hz(h));
    }
}
static int64_t next_event(struct handle *h) { int64_t at = h->streaming ? ready_at(h) : 0, limit = now_ns() + 20000000; return at && at < limit ? at : limit; }
static void sleep_to(int64_t t) { struct timespec ts = {t / 1000000000LL, t % 1000000000LL}; clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL); }

/* ---- ioctl ------------------------------------------------------------------------------------------------------- */

static void simplify(uint32_t *n, uint32_t *d, double hz) {
    uint32_t interval = (uint32_t)(1e7 / hz + 0.5);
    if (interval % 10000000 == 0 || 10000000 % interval == 0 || (uint32_t)(1e7 / (uint32_t)(hz + 0.5)) == interval || (uint32_t)(1e7 / (uint32_t)(hz + 0.5) + 0.5) == interval)
        *n = 1, *d = (uint32_t)(hz + 0.5);
    else *n = interval, *d = 10000000;
}
static struct mode *closest(struct handle *h, uint32_t f, uint32_t w, uint32_t ht) {
    struct mode *best = NULL; uint64_t least = UINT64_MAX; int has = 0;
    for (int i = 0; i < h->nmodes; i++) has |= h->modes[i].fourcc == f;
    if (!has) f = h->modes[0].fourcc;
    for (int i = 0; i < h->nmodes; i++) {
        struct mode *m = &h->modes[i];
        if (m->fourcc != f) continue;
        if (m->range) return m;
        uint64_t mw = m->w, mh = m->h, common = (w < mw ? w : mw) * (ht < mh ? ht : mh), d = (uint64_t)w * ht + mw * mh - 2 * common;
        if (d < least) least = d, best = m;
    }
    return best;
}
static int clamp(int v, int lo, int hi, int step) { v = v < lo ? lo : v > hi ? hi : v; return lo + (v - lo) / (step ? step : 1) * (step ? step : 1); }
static void fill_pix(struct handle *h, struct v4l2_format *f, struct mode *m, int w, int ht) {
    memset(&f->fmt, 0, sizeof f->fmt);
    f->fmt.pix.width = w; f->fmt.pix.height = ht; f->fmt.pix.pixelformat = m->fourcc; f->fmt.pix.field = V4L2_FIELD_NONE;
    f->fmt.pix.bytesperline = line_bytes(h, m->fourcc, w); f->fmt.pix.sizeimage = image_bytes(h, m->fourcc, w, ht);
    f->fmt.pix.colorspace = V4L2_COLORSPACE_SRGB; f->fmt.pix.priv = V4L2_PIX_FMT_PRIV_MAGIC;
    f->fmt.pix.quantization = (uint32_t)getd(h, "quantization", 0); f->fmt.pix.ycbcr_enc = (uint32_t)getd(h, "ycbcr", 0);
}
static void fill_buffer(struct handle *h, struct v4l2_buffer *b, int i) {
    struct slot *s = &h->slot[i];
    b->index = i; b->type = V4L2_BUF_TYPE_VIDEO_CAPTURE; b->memory = V4L2_MEMORY_MMAP; b->field = V4L2_FIELD_NONE;
    b->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC | V4L2_BUF_FLAG_TSTAMP_SRC_SOE | (s->state == QUEUED ? V4L2_BUF_FLAG_QUEUED : s->state == DONE ? V4L2_BUF_FLAG_DONE : 0);
    b->m.offset = (uint32_t)i * h->stride; b->length = h->size; b->reserved2 = 0; b->request_fd = 0;
}
static int allocate(struct handle *h, uint32_t n) {
    long page = sysconf(_SC_PAGESIZE);
    if (h->mem) o_munmap(h->mem, h->mem_size);
    h->mem = NULL; h->nbufs = h->nqueue = h->ndone = 0;
    memset(h->slot, 0, sizeof h->slot);
    h->stride = (h->size + page - 1) / page * page;
    if (!n) return 0;
    h->mem_size = (size_t)h->stride * n;
    if (ftruncate(h->memfd, h->mem_size)) return ENOMEM;
    h->mem = o_mmap(NULL, h->mem_size, PROT_READ | PROT_WRITE, MAP_SHARED, h->memfd, 0);
    if (h->mem == MAP_FAILED) { h->mem = NULL; return ENOMEM; }
    h->nbufs = n;
    return 0;
}
static struct ctrl *control(struct handle *h, uint32_t id) { for (int i = 0; i < h->nctrls; i++) if (h->ctrls[i].id == id) return &h->ctrls[i]; return NULL; }
static struct ctrl *next_control(struct handle *h, uint32_t id) {
    struct ctrl *best = NULL; uint32_t from = id & V4L2_CTRL_ID_MASK;
    if (!(id & V4L2_CTRL_FLAG_NEXT_CTRL)) return control(h, id);
    for (int i = 0; i < h->nctrls; i++) if (h->ctrls[i].id > from && (!best || h->ctrls[i].id < best->id)) best = &h->ctrls[i];
    return best;
}
static void text_to(void *to, size_t size, const char *from) { memset(to, 0, size); for (size_t i = 0; from && from[i] && i + 1 < size; i++) ((char *)to)[i] = from[i]; }
static const char *name_of(uint32_t f) {
    switch (f) {
    case V4L2_PIX_FMT_YUYV: return "YUYV 4:2:2"; case V4L2_PIX_FMT_UYVY: return "UYVY 4:2:2"; case V4L2_PIX_FMT_MJPEG: return "Motion-JPEG";
    case V4L2_PIX_FMT_GREY: return "8-bit Greyscale"; case V4L2_PIX_FMT_Y16: return "16-bit Greyscale"; case V4L2_PIX_FMT_NV12: return "Y/UV 4:2:0"; default: return "Other";
    }
}

/* 0, or the number of an error. h->mu held; may give it up while it waits. */
static int answer(struct handle *h, int fd, unsigned long request, void *argument) {
    uint32_t want = h->meta ? V4L2_BUF_TYPE_META_CAPTURE : V4L2_BUF_TYPE_VIDEO_CAPTURE; int error;
    advance(h);
    if (h->dead) return ENODEV;
    if ((request >> 30 & 3) && (uintptr_t)argument < 4096) return EFAULT;
#define FAIL(name) do { if (getd(h, "slow." name, 0) > 0) { int64_t until = now_ns() + (int64_t)(1e6 * getd(h, "slow." name, 0)); \
        note(h, "slow " name); pthread_mutex_unlock(&h->mu); sleep_to(until); pthread_mutex_lock(&h->mu); } if ((error = fails(h, name))) return error; } while (0)
    switch ((uint32_t)request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *c = argument; FAIL("QUERYCAP");
        memset(c, 0, sizeof *c);
        text_to(c->driver, 16, gets_(h, "driver")); text_to(c->card, 32, gets_(h, "card")); text_to(c->bus_info, 32, gets_(h, "bus"));
        c->version = 6 << 16 | 1 << 8;
        c->device_caps = gets_(h, "device_caps") ? (uint32_t)strtoul(gets_(h, "device_caps"), NULL, 0) : h->meta ? 0x04a00000u : 0x04200001u;
        c->capabilities = gets_(h, "capabilities") ? (uint32_t)strtoul(gets_(h, "capabilities"), NULL, 0) : (0x84a00001u | c->device_caps);
        return 0;
    }
    case VIDIOC_ENUM_FMT: {
        struct v4l2_fmtdesc *d = argument; FAIL("ENUM_FMT");
        uint32_t seen[MODES]; int n = 0;
        if (d->type != want) return EINVAL;
        if (h->meta) { if (d->index) return EINVAL; d->flags = 0; d->pixelformat = v4l2_fourcc('U', 'V', 'C', 'H'); text_to(d->description, 32, "UVC Payload Header Metadata"); memset(d->reserved, 0, sizeof d->reserved); d->mbus_code = 0; return 0; }
        for (int i = 0; i < h->nmodes; i++) { int j = 0; while (j < n && seen[j] != h->modes[i].fourcc) j++; if (j == n) seen[n++] = h->modes[i].fourcc; }
        if (d->index >= (uint32_t)n) return EINVAL;
        d->pixelformat = seen[d->index]; d->flags = bits(d->pixelformat) ? 0 : V4L2_FMT_FLAG_COMPRESSED; d->mbus_code = 0;
        text_to(d->description, 32, name_of(d->pixelformat)); memset(d->reserved, 0, sizeof d->reserved);
        return 0;
    }
    case VIDIOC_ENUM_FRAMESIZES: {
        struct v4l2_frmsizeenum *e = argument; uint32_t n = e->index; FAIL("ENUM_FRAMESIZES");
        if (h->meta) return ENOTTY;
        for (int i = 0; i < h->nmodes; i++) {
            struct mode *m = &h->modes[i];
            if (m->fourcc != e->pixel_format || n--) continue;
            memset(e->reserved, 0, sizeof e->reserved);
            e->type = m->range ? V4L2_FRMSIZE_TYPE_STEPWISE : V4L2_FRMSIZE_TYPE_DISCRETE;
            if (m->range) e->stepwise = (struct v4l2_frmsize_stepwise){m->min_w, m->w, m->step_w, m->min_h, m->h, m->step_h};
            else { e->discrete.width = m->w; e->discrete.height = m->h; }
            return 0;
        }
        return EINVAL;
    }
    case VIDIOC_ENUM_FRAMEINTERVALS: {
        struct v4l2_frmivalenum *e = argument; FAIL("ENUM_FRAMEINTERVALS");
        if (h->meta) return ENOTTY;
        for (int i = 0; i < h->nmodes; i++) {
            struct mode *m = &h->modes[i];
            if (m->fourcc != e->pixel_format) continue;
            if (m->range ? (int)e->width > m->w || (int)e->height > m->h : (int)e->width != m->w || (int)e->height != m->h) continue;
            if (m->range) { /* continuous, from the highest to the lowest rate */
                if (e->index) return EINVAL;
                e->type = V4L2_FRMIVAL_TYPE_CONTINUOUS;
                e->stepwise.min = (struct v4l2_fract){1, (uint32_t)m->hz[0]}; e->stepwise.max = (struct v4l2_fract){1, 1}; e->stepwise.step = (struct v4l2_fract){1, 1};
                return 0;
            }
            if (e->index >= (uint32_t)m->rates) return EINVAL;
            e->type = V4L2_FRMIVAL_TYPE_DISCRETE; memset(e->reserved, 0, sizeof e->reserved);
            simplify(&e->discrete.numerator, &e->discrete.denominator, m->hz[e->index]);
            return 0;
        }
        return EINVAL;
    }
    case VIDIOC_G_FMT: {
        struct v4l2_format *f = argument; FAIL("G_FMT");
        if (f->type != want) return EINVAL;
        if (h->meta) { memset(&f->fmt, 0, sizeof f->fmt); f->fmt.meta.dataformat = v4l2_fourcc('U', 'V', 'C', 'H'); f->fmt.meta.buffersize = 10240; return 0; }
        fill_pix(h, f, h->mode, h->w, h->h);
        return 0;
    }
    case VIDIOC_TRY_FMT: case VIDIOC_S_FMT: {
        struct v4l2_format *f = argument;
        if (f->type != want) return EINVAL;
        if (h->meta) { memset(&f->fmt, 0, sizeof f->fmt); f->fmt.meta.dataformat = v4l2_fourcc('U', 'V', 'C', 'H'); f->fmt.meta.buffersize = 10240; return 0; }
        struct mode *m = closest(h, f->fmt.pix.pixelformat, f->fmt.pix.width, f->fmt.pix.height);
        int w = m->range ? clamp(f->fmt.pix.width, m->min_w, m->w, m->step_w) : m->w, ht = m->range ? clamp(f->fmt.pix.height, m->min_h, m->h, m->step_h) : m->h;
        if ((uint32_t)request == VIDIOC_S_FMT) {
            FAIL("S_FMT");
            if ((error = acquire(h))) return error;
            if (h->nbufs) return EBUSY;
            set_mode(h, m, w, ht);
            note(h, "S_FMT %.4s %dx%d", (char *)&m->fourcc, w, ht);
        }
        fill_pix(h, f, m, w, ht);
        return 0;
    }
    case VIDIOC_G_PARM: case VIDIOC_S_PARM: {
        struct v4l2_streamparm *p = argument; struct v4l2_captureparm *c = &p->parm.capture;
        if (gets_(h, "noparm")) return ENOTTY;
        if (p->type != want || h->meta) return EINVAL;
        if ((uint32_t)request == VIDIOC_S_PARM) {
            FAIL("S_PARM");
            if ((error = acquire(h))) return error;
            if (h->streaming) return EBUSY;
            double asked = c->timeperframe.numerator ? (double)c->timeperframe.denominator / c->timeperframe.numerator : h->mode->hz[0], best = h->mode->hz[0];
            if (h->mode->range) best = asked < 1 ? 1 : asked > h->mode->hz[0] ? h->mode->hz[0] : asked;
            else for (int i = 0; i < h->mode->rates; i++) if ((1 / h->mode->hz[i] - 1 / asked) * (1 / h->mode->hz[i] - 1 / asked) < (1 / best - 1 / asked) * (1 / best - 1 / asked)) best = h->mode->hz[i];
            h->hz = best;
            note(h, "S_PARM %g -> %g", asked, best);
        }
        memset(&p->parm, 0, sizeof p->parm);
        c->capability = V4L2_CAP_TIMEPERFRAME;
        simplify(&c->timeperframe.numerator, &c->timeperframe.denominator, h->hz);
        return 0;
    }
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *r = argument; FAIL("REQBUFS");
        if (r->type != want || h->meta) return EINVAL;
        if (r->memory != V4L2_MEMORY_MMAP || gets_(h, "nommap")) return EINVAL;
        if ((error = acquire(h))) return error;
        if (h->streaming) return EBUSY;
        uint32_t n = r->count && gets_(h, "buffers") ? (uint32_t)getd(h, "buffers", 4) : r->count;
        if (n > BUFS) n = BUFS;
        if ((error = allocate(h, n))) return error;
        if (!n) { o_close(h->lock_fd); h->lock_fd = -1; h->owns = 0; }
        r->count = n; r->capabilities = V4L2_BUF_CAP_SUPPORTS_MMAP | V4L2_BUF_CAP_SUPPORTS_ORPHANED_BUFS; r->flags = 0;
        memset(r->reserved, 0, sizeof r->reserved);
        note(h, "REQBUFS %u", n);
        return 0;
    }
    case VIDIOC_QUERYBUF: {
        struct v4l2_buffer *b = argument; FAIL("QUERYBUF");
        if (b->type != want || b->index >= (uint32_t)h->nbufs) return EINVAL;
        struct slot *s = &h->slot[b->index];
        fill_buffer(h, b, b->index); b->bytesused = s->used; b->sequence = s->seq;
        b->timestamp.tv_sec = s->stamp / 1000000000; b->timestamp.tv_usec = s->stamp / 1000 % 1000000;
        return 0;
    }
    case VIDIOC_QBUF: {
        struct v4l2_buffer *b = argument; FAIL("QBUF");
        if (b->type != want || b->memory != V4L2_MEMORY_MMAP || b->index >= (uint32_t)h->nbufs) return EINVAL;
        if (!h->owns) return EBUSY;
        if (h->slot[b->index].state != IDLE) return EINVAL;
        h->slot[b->index].state = QUEUED; h->queue[h->nqueue++] = b->index;
        fill_buffer(h, b, b->index);
        return 0;
    }
    case VIDIOC_DQBUF: {
        struct v4l2_buffer *b = argument; FAIL("DQBUF");
        if (b->type != want || b->memory != V4L2_MEMORY_MMAP || h->meta) return EINVAL;
        for (;;) {
            if (!h->streaming) return EINVAL;
            if (h->ndone) break;
            if (o_fcntl(fd, F_GETFL) & O_NONBLOCK) return EAGAIN;
            int64_t until = next_event(h);
            pthread_mutex_unlock(&h->mu); sleep_to(until); pthread_mutex_lock(&h->mu);
            advance(h);
            if (h->dead) return ENODEV;
        }
        int i = h->done[0]; struct slot *s = &h->slot[i];
        memmove(h->done, h->done + 1, --h->ndone * sizeof(int));
        s->state = IDLE;
        fill_buffer(h, b, i);
        b->flags = (b->flags & ~(V4L2_BUF_FLAG_TIMESTAMP_MASK | V4L2_BUF_FLAG_TSTAMP_SRC_MASK)) | s->flags;
        b->bytesused = s->used; b->sequence = gets_(h, "nosequence") ? 0 : s->seq; memset(&b->timecode, 0, sizeof b->timecode);
        b->timestamp.tv_sec = s->stamp / 1000000000; b->timestamp.tv_usec = s->stamp / 1000 % 1000000;
        if (h->log) fprintf(h->log, "@%u,%lld\n", s->seq, (long long)now_ns());
        return 0;
    }
    case VIDIOC_STREAMON: {
        const char *other = gets_(h, "nospace_with");
        FAIL("STREAMON");
        if (*(uint32_t *)argument != want || !h->nbufs) return EINVAL;
        if (!h->owns) return EBUSY;
        if (h->streaming) return 0;
        if (other && try_lock(other, "stream", NULL)) return ENOSPC;
        if (try_lock(h->id, "stream", &h->stream_fd)) return EBUSY;
        h->streaming = 1; h->k = 0; h->seq = 0; h->began = now_ns();
        int64_t period = (int64_t)(1e9 / real_hz(h)), from = h->began + (int64_t)(1e6 * getd(h, "first_ms", 150));
        int64_t phase = epoch() + (int64_t)(1e6 * getd(h, "phase_ms", 0));
        h->next = gets_(h, "phase_ms") ? phase + ((from - phase) / period + 1) * period : from;
        note(h, "STREAMON %.4s %ux%u %g", (char *)&h->mode->fourcc, h->w, h->h, real_hz(h));
        return 0;
    }
    case VIDIOC_STREAMOFF:
        FAIL("STREAMOFF");
        if (*(uint32_t *)argument != want) return EINVAL;
        h->streaming = 0; h->nqueue = h->ndone = 0;
        for (int i = 0; i < h->nbufs; i++) h->slot[i].state = IDLE;
        if (h->stream_fd >= 0) o_close(h->stream_fd);
        h->stream_fd = -1;
        note(h, "STREAMOFF");
        return 0;
    case VIDIOC_ENUMINPUT: {
        struct v4l2_input *in = argument; uint32_t n = in->index;
        if (n || h->meta) return h->meta ? ENOTTY : EINVAL;
        memset(in, 0, sizeof *in); strcpy((char *)in->name, "Camera 1"); in->type = V4L2_INPUT_TYPE_CAMERA;
        return 0;
    }
    case VIDIOC_G_INPUT: if (h->meta) return ENOTTY; *(int *)argument = 0; return 0;
    case VIDIOC_S_INPUT: if (h->meta) return ENOTTY; return *(int *)argument ? EINVAL : 0;
    case VIDIOC_G_PRIORITY: *(uint32_t *)argument = V4L2_PRIORITY_DEFAULT; return 0;
    case VIDIOC_S_PRIORITY: return *(uint32_t *)argument > 3 ? EINVAL : 0;
    case VIDIOC_QUERYCTRL: {
        struct v4l2_queryctrl *q = argument; struct ctrl *c = next_control(h, q->id);
        if (!c) return EINVAL;
        memset(q, 0, sizeof *q); q->id = c->id; q->type = V4L2_CTRL_TYPE_INTEGER; q->minimum = c->lo; q->maximum = c->hi; q->step = 1; q->default_value = c->def;
        text_to(q->name, 32, c->name);
        return 0;
    }
    case VIDIOC_QUERY_EXT_CTRL: {
        struct v4l2_query_ext_ctrl *q = argument; struct ctrl *c = next_control(h, q->id);
        if (!c) return EINVAL;
        memset(q, 0, sizeof *q); q->id = c->id; q->type = V4L2_CTRL_TYPE_INTEGER; q->minimum = c->lo; q->maximum = c->hi; q->step = 1; q->default_value = c->def;
        q->elem_size = 4; q->elems = 1; text_to(q->name, 32, c->name);
        return 0;
    }
    case VIDIOC_G_CTRL: case VIDIOC_S_CTRL: {
        struct v4l2_control *v = argument; struct ctrl *c = control(h, v->id);
        if ((uint32_t)request == VIDIOC_S_CTRL) FAIL("S_CTRL");
        if (!c) return EINVAL;
        if ((uint32_t)request == VIDIOC_S_CTRL) { c->value = clamp(v->value, c->lo, c->hi, 1); note(h, "S_CTRL %#x %d", v->id, v->value); }
        v->value = c->value;
        return 0;
    }
    case VIDIOC_G_EXT_CTRLS: case VIDIOC_S_EXT_CTRLS: case VIDIOC_TRY_EXT_CTRLS: {
        struct v4l2_ext_controls *e = argument;
        for (uint32_t i = 0; i < e->count; i++) {
            struct ctrl *c = control(h, e->controls[i].id);
            if (!c) { e->error_idx = (uint32_t)request == VIDIOC_TRY_EXT_CTRLS ? i : e->count; return EINVAL; }
            if ((uint32_t)request == VIDIOC_G_EXT_CTRLS) e->controls[i].value = c->value;
            else { e->controls[i].value = clamp(e->controls[i].value, c->lo, c->hi, 1); if ((uint32_t)request == VIDIOC_S_EXT_CTRLS) c->value = e->controls[i].value; }
        }
        return 0;
    }
    case VIDIOC_SUBSCRIBE_EVENT: case VIDIOC_UNSUBSCRIBE_EVENT: {
        struct v4l2_event_subscription *s = argument;
        if ((uint32_t)request == VIDIOC_UNSUBSCRIBE_EVENT) return 0;
        return s->type == V4L2_EVENT_CTRL && control(h, s->id) ? 0 : EINVAL;
    }
    case VIDIOC_DQEVENT: return ENOENT;
    }
    return ENOTTY;
}

/* ---- the C library ----------------------------------------------------------------------------------------------- */

static int open_node(const char *path, int flags) {
    char resolved[PATH_MAX]; int fd; struct stat st;
    if (o_stat(path, &st) || !S_ISREG(st.st_mode)) { errno = ENOENT; return -1; }
    if (!o_realpath(path, resolved)) return -1;
    struct handle *h = new_handle(resolved, flags, &fd);
    if (!h) return -1;
    pthread_mutex_lock(&table_mu);
    __atomic_store_n(&fds[fd], h, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&table_mu);
    note(h, "open %s", path + strlen(root));
    return fd;
}
static int open_any(int dir, const char *path, int flags, mode_t mode) {
    char to[PATH_MAX]; BEGIN();
    const char *p = redirected(path, to);
    if (p != path && is_node(path)) return open_node(p, flags);
    return o_openat(dir, p, flags, mode);
}
#define MODE() mode_t mode = 0; if (flags & (O_CREAT | __O_TMPFILE)) { va_list a; va_start(a, flags); mode = va_arg(a, mode_t); va_end(a); }
int open(const char *path, int flags, ...) { MODE(); return open_any(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(); return open_any(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE(); return open_any(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE(); return open_any(dir, path, flags | O_LARGEFILE, mode); }
int __open_2(const char *path, int flags) { return open_any(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_any(AT_FDCWD, path, flags | O_LARGEFILE, 0); }

int close(int fd) {
    BEGIN();
    if (of(fd)) {
        pthread_mutex_lock(&table_mu);
        struct handle *h = fds[fd];
        __atomic_store_n(&fds[fd], NULL, __ATOMIC_RELEASE);
        if (h) {
            let_go(h);
        }
        pthread_mutex_unlock(&table_mu);
    }
    return o_close(fd);
}
static int shared(int fd, int copy) { /* a duplicate is the same open file */
    struct handle *h = of(fd);
    if (h && copy >= 0 && copy < FDS) {
        pthread_mutex_lock(&table_mu); h->refs++; __atomic_store_n(&fds[copy], h, __ATOMIC_RELEASE); pthread_mutex_unlock(&table_mu);
    }
    return copy;
}
int dup(int fd) { BEGIN(); return shared(fd, o_dup(fd)); }
static int fcntl_any(int fd, int command, void *argument) {
    int result = o_fcntl(fd, command, argument);
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? shared(fd, result) : result;
}
int fcntl(int fd, int command, ...) { BEGIN(); va_list a; va_start(a, command); void *p = va_arg(a, void *); va_end(a); return fcntl_any(fd, command, p); }
int fcntl64(int fd, int command, ...) { BEGIN(); va_list a; va_start(a, command); void *p = va_arg(a, void *); va_end(a); return fcntl_any(fd, command, p); }

int ioctl(int fd, unsigned long request, ...) {
    va_list a; va_start(a, request); void *p = va_arg(a, void *); va_end(a);
    BEGIN();
    struct handle *h = of(fd);
    if (!h) return o_ioctl(fd, request, p);
    pthread_mutex_lock(&h->mu);
    int error = answer(h, fd, request, p);
    if (error && error != EAGAIN && error != EINVAL) note(h, "ioctl %lu errno %d", request & 0xff, error);
    pthread_mutex_unlock(&h->mu);
    if (error) { errno = error; return -1; }
    return 0;
}

static void *map_any(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    BEGIN();
    struct handle *h = of(fd);
    if (h) {
        pthread_mutex_lock(&h->mu); int error = h->dead ? ENODEV : fails(h, "mmap"), fits = h->stride && offset % h->stride == 0 && (size_t)offset < h->mem_size && length <= h->stride;
        pthread_mutex_unlock(&h->mu);
        if (error || !fits) { errno = error ? error : EINVAL; return MAP_FAILED; }
    }
    void *mapped = o_mmap(at, length, protection, flags, fd, offset);
    if (h && mapped != MAP_FAILED) { /* a mapping keeps the device open */
        pthread_mutex_lock(&table_mu);
        for (int i = 0; i < MAPS; i++) if (!maps[i].at) { maps[i].at = mapped; maps[i].length = length; maps[i].h = h; h->refs++; break; }
        pthread_mutex_unlock(&table_mu);
    }
    return mapped;
}
void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset) { return map_any(at, length, protection, flags, fd, offset); }
void *mmap64(void *at, size_t length, int protection, int flags, int fd, off_t offset) { return map_any(at, length, protection, flags, fd, offset); }
int munmap(void *at, size_t length) {
    BEGIN();
    pthread_mutex_lock(&table_mu);
    for (int i = 0; i < MAPS; i++) if (maps[i].at == at && at) { maps[i].at = NULL; let_go(maps[i].h); break; }
    pthread_mutex_unlock(&table_mu);
    return o_munmap(at, length);
}

static short events_of(struct handle *h, short asked, int64_t *next) {
    short events = 0;
    pthread_mutex_lock(&h->mu);
    advance(h);
    if (h->dead) events = POLLERR | POLLHUP | (asked & POLLPRI);
    else if (!h->streaming) events = asked & (POLLIN | POLLRDNORM) ? POLLERR : 0;
    else if (h->ndone) events = asked & (POLLIN | POLLRDNORM);
    int64_t at = next_event(h);
    if (at < *next) *next = at;
    pthread_mutex_unlock(&h->mu);
    return events;
}
static int poll_any(struct pollfd *p, nfds_t n, int64_t until) { /* until < 0: for ever */
    for (;;) {
        int64_t now = now_ns(), next = now + 20000000; int ready = 0, others = 0;
        struct pollfd rest[256];
        for (nfds_t i = 0; i < n; i++) {
            struct handle *h = of(p[i].fd);
            if (i < 256) { rest[i] = p[i]; if (h) rest[i].fd = -1; else others |= p[i].fd >= 0; }
            p[i].revents = 0;
            if (h && (p[i].revents = events_of(h, p[i].events, &next))) ready++;
        }
        if (until >= 0 && until < next) next = until;
        if (others) {
            int wait = ready ? 0 : (int)((next - now + 999999) / 1000000);
            int r = o_poll(rest, n, wait < 0 ? 0 : wait);
            if (r < 0) return r;
            for (nfds_t i = 0; i < n; i++) if (rest[i].fd >= 0 && rest[i].revents) p[i].revents = rest[i].revents, ready++;
        } else if (!ready && next > now) sleep_to(next);
        if (ready) return ready;
        if (until >= 0 && now_ns() >= until) {
            for (nfds_t i = 0; i < n; i++) { struct handle *h = of(p[i].fd); int64_t x = INT64_MAX; if (h && (p[i].revents = events_of(h, p[i].events, &x))) ready++; }
            return ready;
        }
    }
}
static int any_of_ours(struct pollfd *p, nfds_t n) { for (nfds_t i = 0; i < n; i++) if (of(p[i].fd)) return 1; return 0; }
int poll(struct pollfd *p, nfds_t n, int timeout) {
    BEGIN();
    if (!any_of_ours(p, n)) return o_poll(p, n, timeout);
    return poll_any(p, n, timeout < 0 ? -1 : now_ns() + timeout * 1000000LL);
}
int __poll_chk(struct pollfd *p, nfds_t n, int timeout, size_t size) { (void)size; return poll(p, n, timeout); }
int ppoll(struct pollfd *p, nfds_t n, const struct timespec *t, const sigset_t *mask) {
    BEGIN();
    if (!any_of_ours(p, n)) return REAL(ppoll)(p, n, t, mask);
    return poll_any(p, n, t ? now_ns() + t->tv_sec * 1000000000LL + t->tv_nsec : -1);
}
int select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *t) {
    int ours = 0, count = 0; struct pollfd p[1024];
    BEGIN();
    for (int fd = 0; fd < n && fd < FDS; fd++) ours |= of(fd) && ((r && FD_ISSET(fd, r)) || (e && FD_ISSET(fd, e)));
    if (!ours) return o_select(n, r, w, e, t);
    for (int fd = 0; fd < n && count < 1024; fd++) {
        short events = (r && FD_ISSET(fd, r) ? POLLIN : 0) | (w && FD_ISSET(fd, w) ? POLLOUT : 0) | (e && FD_ISSET(fd, e) ? POLLPRI : 0);
        if (events) p[count++] = (struct pollfd){fd, events, 0};
    }
    int result = poll_any(p, count, t ? now_ns() + t->tv_sec * 1000000000LL + t->tv_usec * 1000LL : -1), set = 0;
    for (int i = 0; i < count && result >= 0; i++) {
        if (r && !(FD_ISSET(p[i].fd, r) && p[i].revents & (POLLIN | POLLERR | POLLHUP) && ++set)) FD_CLR(p[i].fd, r);
        if (w && !(FD_ISSET(p[i].fd, w) && p[i].revents & POLLOUT && ++set)) FD_CLR(p[i].fd, w);
        if (e && !(FD_ISSET(p[i].fd, e) && p[i].revents & POLLPRI && ++set)) FD_CLR(p[i].fd, e);
    }
    return result < 0 ? result : set;
}

static int as_device(const char *path, const char *real_path, int result, struct stat *st) {
    if (result || !is_node(path) || !S_ISREG(st->st_mode)) return result;
    struct kvs *kvs = malloc(sizeof *kvs); int minor = 0;
    parse(kvs, real_path);
    for (int i = 0; i < kvs->n; i++) if (!strcmp(kvs->at[i].key, "minor")) minor = atoi(kvs->at[i].value);
    free(kvs);
    st->st_mode = S_IFCHR | 0660; st->st_rdev = makedev(81, minor); st->st_size = 0; st->st_gid = 44;
    return result;
}
#define STAT(name, real_name) int name(const char *path, struct stat *st) { char to[PATH_MAX]; BEGIN(); const char *p = redirected(path, to); \
    return p == path ? o_##real_name(p, st) : as_device(path, p, o_##real_name(p, st), st); }
STAT(stat, stat) STAT(lstat, lstat)
int stat64(const char *path, struct stat64 *st) { return stat(path, (struct stat *)st); }
int lstat64(const char *path, struct stat64 *st) { return lstat(path, (struct stat *)st); }
int fstatat(int dir, const char *path, struct stat *st, int flags) {
    char to[PATH_MAX]; BEGIN(); const char *p = redirected(path, to);
    return p == path ? o_fstatat(dir, p, st, flags) : as_device(path, p, o_fstatat(dir, p, st, flags), st);
}
int fstatat64(int dir, const char *path, struct stat64 *st, int flags) { return fstatat(dir, path, (struct stat *)st, flags); }
int fstat(int fd, struct stat *st) {
    BEGIN();
    int result = o_fstat(fd, st); struct handle *h = of(fd);
    if (!result && h) { st->st_mode = S_IFCHR | 0660; st->st_rdev = makedev(81, h->minor); st->st_size = 0; }
    return result;
}
int fstat64(int fd, struct stat64 *st) { return fstat(fd, (struct stat *)st); }
int statx(int dir, const char *path, int flags, unsigned mask, struct statx *sx) {
    char to[PATH_MAX]; BEGIN(); const char *p = redirected(path, to);
    int result = REAL(statx)(dir, p, flags, mask, sx);
    if (!result && p != path && is_node(path) && S_ISREG(sx->stx_mode)) { sx->stx_mode = S_IFCHR | 0660; sx->stx_rdev_major = 81; sx->stx_size = 0; }
    return result;
}
int access(const char *path, int mode) { char to[PATH_MAX]; BEGIN(); return o_access(redirected(path, to), mode); }
int faccessat(int dir, const char *path, int mode, int flags) { char to[PATH_MAX]; BEGIN(); return o_faccessat(dir, redirected(path, to), mode, flags); }
ssize_t readlink(const char *path, char *buffer, size_t size) { char to[PATH_MAX]; BEGIN(); return o_readlink(redirected(path, to), buffer, size); }
ssize_t readlinkat(int dir, const char *path, char *buffer, size_t size) { char to[PATH_MAX]; BEGIN(); return o_readlinkat(dir, redirected(path, to), buffer, size); }
DIR *opendir(const char *path) {
    char to[PATH_MAX]; BEGIN();
    if (root && (!strcmp(path, "/dev") || !strcmp(path, "/dev/"))) { snprintf(to, sizeof to, "%s/dev", root); return o_opendir(to); }
    return o_opendir(redirected(path, to));
}
FILE *fopen(const char *path, const char *mode) { char to[PATH_MAX]; BEGIN(); return o_fopen(redirected(path, to), mode); }
FILE *fopen64(const char *path, const char *mode) { char to[PATH_MAX]; BEGIN(); return o_fopen(redirected(path, to), mode); }
char *realpath(const char *path, char *resolved) {
    char to[PATH_MAX], out[PATH_MAX]; BEGIN();
    const char *p = redirected(path, to);
    if (p == path) return o_realpath(path, resolved);
    if (!o_realpath(p, out)) return NULL;
    const char *shown = strncmp(out, root, strlen(root)) ? out : out + strlen(root);
    return resolved ? strcpy(resolved, shown) : strdup(shown);
}
