/*
 * Records what a program writes below a directory, and when it asks for it to be durable. Preloaded into the service by
 * the power-loss test, which compiles it.
 *
 *   RECORD_DIRECTORY   what is below it is recorded; an absolute path without links
 *   RECORD_TRACE       appended to; the test itself appends what was acknowledged to it
 *   RECORD_BOOT_ID     read instead of the machine's, so that the recorded run is one of another boot
 *
 * An entry is `struct entry`, then `length` bytes. What changes a file is done and noted under one lock, so the order of
 * the trace is the order of the changes. A sync is noted twice, since others write while it runs: it covers what stands
 * before its beginning, and holds from its end on. The end is noted before the call returns, so whatever the program
 * says afterwards comes later in the trace as well.
 *
 * SQLite maps `-shm` files into memory and builds them anew after a crash: they are left out. A call that changes a
 * recorded file in a way that is not understood is noted as such, and the test refuses the trace. That nothing was
 * missed is checked in the end: the whole trace gives the directory as it is.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum operation { OPENED = 1, WRITTEN, RESIZED, SYNC_BEGUN, SYNCED, RENAMED, REMOVED, DIRECTORY_MADE, NOT_UNDERSTOOD };

struct entry {
    uint32_t operation;
    uint32_t file;   /* a number that an open gave */
    uint64_t at;     /* an offset, a size, which sync, or whether an open has emptied it */
    uint64_t length; /* of what follows: content, or one or two paths */
};

/* More descriptors than a service of the test has; one beyond is not understood. */
#define DESCRIPTORS 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t files[DESCRIPTORS]; /* 0 where it is none of ours */
static uint32_t last_file;
static uint64_t last_sync;
static int trace = -1;

/* The real function behind the one defined here. */
#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static void fail(const char *what) {
    dprintf(STDERR_FILENO, "record.c: %s: %s\n", what, strerror(errno));
    abort();
}

static void note(enum operation operation, uint32_t file, uint64_t at, const void *bytes, size_t length) {
    REAL(writev);
    if (trace < 0) {
        __typeof__(&open) real_open = (__typeof__(&open))dlsym(RTLD_NEXT, "open");
        trace = real_open(getenv("RECORD_TRACE"), O_WRONLY | O_APPEND | O_CLOEXEC);
        if (trace < 0) fail("RECORD_TRACE cannot be opened");
    }
    struct entry entry = {operation, file, at, length};
    struct iovec parts[2] = {{&entry, sizeof entry}, {(void *)bytes, length}};
    /* One write: entries of the test's own do not come in between. */
    if (real(trace, parts, 2) != (ssize_t)(sizeof entry + length)) fail("the trace cannot be written");
}

/* The path below the recorded directory, or NULL where it is none or not recorded. `out` has PATH_MAX bytes. */
static const char *recorded(int directory, const char *path, char *out) {
    static const char *root;
    if (!root) root = getenv("RECORD_DIRECTORY");
    if (!root) return NULL;
    if (path[0] == '/') {
        snprintf(out, PATH_MAX, "%s", path);
    } else {
        char link[64], base[PATH_MAX];
        if (directory == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
        ssize_t length = readlink(link, base, sizeof base - 1);
        if (length < 0) return NULL;
        base[length] = 0;
        if (snprintf(out, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) fail("a path is too long");
    }
    size_t length = strlen(root), end = strlen(out);
    if (strncmp(out, root, length) != 0 || (out[length] != '/' && out[length] != 0)) return NULL;
    if (end > 4 && strcmp(out + end - 4, "-shm") == 0) return NULL;
    return out[length] ? out + length + 1 : out + length;
}

static uint32_t file_of(int descriptor) {
    return descriptor >= 0 && descriptor < DESCRIPTORS ? files[descriptor] : 0;
}

static void opened(int descriptor, int directory, const char *path, int flags) {
    char buffer[PATH_MAX];
    const char *below = recorded(directory, path, buffer);
    if (descriptor < 0) return;
    if (descriptor >= DESCRIPTORS) {
        if (below) note(NOT_UNDERSTOOD, 0, 0, "a descriptor beyond the table", 29);
        return;
    }
    files[descriptor] = below ? ++last_file : 0;
    if (below && (flags & (O_DSYNC | O_DIRECT))) note(NOT_UNDERSTOOD, 0, 0, below, strlen(below));
    if (below) note(OPENED, files[descriptor], (flags & O_TRUNC) != 0, below, strlen(below));
}

static const char *redirected(const char *path) {
    const char *boot_id = getenv("RECORD_BOOT_ID");
    return boot_id && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0 ? boot_id : path;
}

#define MODE(flags, mode) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        MODE(flags, mode) \
        pthread_mutex_lock(&lock); \
        int descriptor = real(redirected(path), flags, mode); \
        int error = errno; \
        opened(descriptor, AT_FDCWD, path, flags); \
        pthread_mutex_unlock(&lock); \
        errno = error; \
        return descriptor; \
    }

#define OPENAT(name) \
    int name(int directory, const char *path, int flags, ...) { \
        REAL(name); \
        MODE(flags, mode) \
        pthread_mutex_lock(&lock); \
        int descriptor = real(directory, redirected(path), flags, mode); \
        int error = errno; \
        opened(descriptor, directory, path, flags); \
        pthread_mutex_unlock(&lock); \
        errno = error; \
        return descriptor; \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

int close(int descriptor) {
    REAL(close);
    pthread_mutex_lock(&lock);
    if (file_of(descriptor)) files[descriptor] = 0;
    int result = real(descriptor);
    pthread_mutex_unlock(&lock);
    return result;
}

int closedir(DIR *directory) {
    REAL(closedir);
    pthread_mutex_lock(&lock);
    int descriptor = dirfd(directory);
    if (file_of(descriptor)) files[descriptor] = 0;
    int result = real(directory);
    pthread_mutex_unlock(&lock);
    return result;
}

/* Where a write without an offset has ended. */
static uint64_t here(int descriptor) {
    off_t offset = lseek(descriptor, 0, SEEK_CUR);
    if (offset < 0) fail("a recorded file has no offset");
    return (uint64_t)offset;
}

ssize_t write(int descriptor, const void *bytes, size_t length) {
    REAL(write);
    if (!file_of(descriptor)) return real(descriptor, bytes, length);
    pthread_mutex_lock(&lock);
    ssize_t written = real(descriptor, bytes, length);
    int error = errno;
    if (written > 0) note(WRITTEN, files[descriptor], here(descriptor) - (uint64_t)written, bytes, (size_t)written);
    pthread_mutex_unlock(&lock);
    errno = error;
    return written;
}

#define PWRITE(name, offset_type) \
    ssize_t name(int descriptor, const void *bytes, size_t length, offset_type offset) { \
        REAL(name); \
        if (!file_of(descriptor)) return real(descriptor, bytes, length, offset); \
        pthread_mutex_lock(&lock); \
        ssize_t written = real(descriptor, bytes, length, offset); \
        int error = errno; \
        if (written > 0) note(WRITTEN, files[descriptor], (uint64_t)offset, bytes, (size_t)written); \
        pthread_mutex_unlock(&lock); \
        errno = error; \
        return written; \
    }

PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define RESIZE(name, size_type) \
    int name(int descriptor, size_type size) { \
        REAL(name); \
        if (!file_of(descriptor)) return real(descriptor, size); \
        pthread_mutex_lock(&lock); \
        int result = real(descriptor, size); \
        int error = errno; \
        if (result == 0) note(RESIZED, files[descriptor], (uint64_t)size, NULL, 0); \
        pthread_mutex_unlock(&lock); \
        errno = error; \
        return result; \
    }

RESIZE(ftruncate, off_t)
RESIZE(ftruncate64, off64_t)

#define SYNC(name) \
    int name(int descriptor) { \
        REAL(name); \
        uint32_t file = file_of(descriptor); \
        if (!file) return real(descriptor); \
        pthread_mutex_lock(&lock); \
        uint64_t sync = ++last_sync; \
        note(SYNC_BEGUN, file, sync, NULL, 0); \
        pthread_mutex_unlock(&lock); \
        int result = real(descriptor); \
        int error = errno; \
        pthread_mutex_lock(&lock); \
        if (result == 0) note(SYNCED, file, sync, NULL, 0); \
        pthread_mutex_unlock(&lock); \
        errno = error; \
        return result; \
    }

SYNC(fsync)
SYNC(fdatasync)

/* A change of names that has succeeded: of one path, or of two with a zero between them. */
static void named(enum operation operation, int one_directory, const char *one, int two_directory, const char *two) {
    char one_buffer[PATH_MAX], two_buffer[PATH_MAX], both[2 * PATH_MAX];
    const char *from = recorded(one_directory, one, one_buffer);
    const char *to = two ? recorded(two_directory, two, two_buffer) : NULL;
    if (!from && !to) return;
    if (two && (!from || !to)) {
        note(NOT_UNDERSTOOD, 0, 0, one, strlen(one));
        return;
    }
    size_t length = strlen(from);
    memcpy(both, from, length);
    if (two) {
        both[length++] = 0;
        memcpy(both + length, to, strlen(to));
        length += strlen(to);
    }
    note(operation, 0, 0, both, length);
}

#define NAMES(name, parameters, arguments, operation, one_directory, one, two_directory, two) \
    int name parameters { \
        REAL(name); \
        pthread_mutex_lock(&lock); \
        int result = real arguments; \
        int error = errno; \
        if (result == 0) named(operation, one_directory, one, two_directory, two); \
        pthread_mutex_unlock(&lock); \
        errno = error; \
        return result; \
    }

NAMES(rename, (const char *old, const char *new), (old, new), RENAMED, AT_FDCWD, old, AT_FDCWD, new)
NAMES(renameat, (int from, const char *old, int to, const char *new), (from, old, to, new), RENAMED, from, old, to, new)
NAMES(unlink, (const char *path), (path), REMOVED, AT_FDCWD, path, 0, NULL)
NAMES(unlinkat, (int from, const char *path, int flags), (from, path, flags), REMOVED, from, path, 0, NULL)
NAMES(rmdir, (const char *path), (path), REMOVED, AT_FDCWD, path, 0, NULL)
NAMES(mkdir, (const char *path, mode_t mode), (path, mode), DIRECTORY_MADE, AT_FDCWD, path, 0, NULL)
/* What the service does not do to its store today. */
NAMES(link, (const char *old, const char *new), (old, new), NOT_UNDERSTOOD, AT_FDCWD, old, AT_FDCWD, new)
NAMES(truncate, (const char *path, off_t size), (path, size), NOT_UNDERSTOOD, AT_FDCWD, path, 0, NULL)

#define NOT_TODAY(type, name, descriptor, parameters, arguments) \
    type name parameters { \
        REAL(name); \
        if (file_of(descriptor)) note(NOT_UNDERSTOOD, 0, 0, #name, strlen(#name)); \
        return real arguments; \
    }

NOT_TODAY(int, dup, from, (int from), (from))
NOT_TODAY(ssize_t, writev, to, (int to, const struct iovec *parts, int count), (to, parts, count))
NOT_TODAY(ssize_t, pwritev, to, (int to, const struct iovec *parts, int count, off_t at), (to, parts, count, at))
NOT_TODAY(ssize_t, pwritev64, to, (int to, const struct iovec *parts, int count, off64_t at), (to, parts, count, at))
NOT_TODAY(int, fallocate, to, (int to, int mode, off_t at, off_t length), (to, mode, at, length))
NOT_TODAY(int, fallocate64, to, (int to, int mode, off64_t at, off64_t length), (to, mode, at, length))
NOT_TODAY(int, posix_fallocate, to, (int to, off_t at, off_t length), (to, at, length))
NOT_TODAY(int, posix_fallocate64, to, (int to, off64_t at, off64_t length), (to, at, length))
NOT_TODAY(int, sync_file_range, to, (int to, off64_t at, off64_t length, unsigned how), (to, at, length, how))
NOT_TODAY(ssize_t, copy_file_range, to,
          (int from, off64_t *from_at, int to, off64_t *to_at, size_t length, unsigned flags),
          (from, from_at, to, to_at, length, flags))
