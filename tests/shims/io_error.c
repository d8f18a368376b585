/* Makes a disk fail on purpose: an interposer for LD_PRELOAD.
 *
 * While the file IO_ERROR_TRIGGER exists, calls on files fail whose path contains what it names. Its text is
 *
 *     EIO <part of a path>       syncs fail
 *     ENOSPC <part of a path>    writes fail
 *
 * Every call that it lets fail adds a line with the path to IO_ERROR_TRIGGER.log.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum kind { SYNC, WRITE };

/* The error for this call, or 0 where it may go on. */
static int fault(enum kind kind, int fd)
{
    const char *trigger = getenv("IO_ERROR_TRIGGER");
    char text[512], link[64], path[4096], word[16], part[256];
    if (trigger == NULL)
        return 0;
    int saved = errno;
    int error = 0;
    int file = (int)syscall(SYS_openat, AT_FDCWD, trigger, O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        ssize_t length = syscall(SYS_read, file, text, sizeof text - 1);
        syscall(SYS_close, file);
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t size = readlink(link, path, sizeof path - 1);
        if (length > 0 && size > 0) {
            text[length] = 0;
            path[size] = 0;
            if (sscanf(text, "%15s %255s", word, part) == 2 && strstr(path, part) != NULL) {
                if (kind == SYNC && strcmp(word, "EIO") == 0)
                    error = EIO;
                if (kind == WRITE && strcmp(word, "ENOSPC") == 0)
                    error = ENOSPC;
            }
        }
    }
    if (error != 0) {
        char log[4096];
        snprintf(log, sizeof log, "%s.log", trigger);
        int out = (int)syscall(SYS_openat, AT_FDCWD, log,
                               O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (out >= 0) {
            strcat(path, "\n");
            syscall(SYS_write, out, path, strlen(path));
            syscall(SYS_close, out);
        }
    }
    errno = saved;
    return error;
}

#define FAIL_IF(kind, fd)                                           \
    do {                                                            \
        int error = fault(kind, fd);                                \
        if (error != 0) {                                           \
            errno = error;                                          \
            return -1;                                              \
        }                                                           \
    } while (0)

int fsync(int fd) { FAIL_IF(SYNC, fd); return (int)syscall(SYS_fsync, fd); }

int fdatasync(int fd) { FAIL_IF(SYNC, fd); return (int)syscall(SYS_fdatasync, fd); }

ssize_t write(int fd, const void *bytes, size_t count)
{
    FAIL_IF(WRITE, fd);
    return syscall(SYS_write, fd, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at)
{
    FAIL_IF(WRITE, fd);
    return syscall(SYS_pwrite64, fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at)
{
    FAIL_IF(WRITE, fd);
    return syscall(SYS_pwrite64, fd, bytes, count, at);
}
