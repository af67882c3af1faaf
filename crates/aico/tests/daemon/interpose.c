/* Stands between a program and the system's calls on files, in tests only: a disk that is full, can
 * only be read, does not sync, or is slow, for what lies under one folder. The file that
 * AICO_TEST_DISK names says which, at any time: "MODE NUMBER FOLDER", or nothing.
 *
 *   full         writes find no room          readonly     nothing can be changed
 *   nosync       syncs fail                   slow MS      syncs take so long
 *   slowswap MS  renames take so long         noread       reads fail
 *   nowrite      writes fail
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum mode { NONE, FULL, READONLY, NOSYNC, SLOW, SLOWSWAP, NOREAD, NOWRITE };

struct fault {
    enum mode mode;
    long number;
    char folder[PATH_MAX];
};

static void look(struct fault *fault)
{
    static const char *names[] = {"", "full", "readonly", "nosync", "slow", "slowswap",
                                  "noread", "nowrite"};
    char text[PATH_MAX + 64], mode[16];
    const char *path = getenv("AICO_TEST_DISK");
    fault->mode = NONE;
    if (!path)
        return;
    long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return;
    long length = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    if (length <= 0)
        return;
    text[length] = 0;
    if (sscanf(text, "%15s %ld %4095[^\n]", mode, &fault->number, fault->folder) != 3)
        return;
    for (int i = FULL; i <= NOWRITE; i++)
        if (!strcmp(mode, names[i]))
            fault->mode = i;
}

static int under(const struct fault *fault, const char *path)
{
    size_t length = strlen(fault->folder);
    return !strncmp(path, fault->folder, length) && (path[length] == '/' || !path[length]);
}

/* What holds for this path, without a trace in errno. */
static enum mode of_path(int at, const char *path, long *number)
{
    struct fault fault;
    char whole[PATH_MAX * 2], link[64];
    int before = errno;
    look(&fault);
    if (fault.mode != NONE && path[0] != '/') {
        if (at == AT_FDCWD)
            strcpy(link, "/proc/self/cwd");
        else
            snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        long length = syscall(SYS_readlinkat, AT_FDCWD, link, whole, PATH_MAX);
        length = length < 0 ? 0 : length;
        snprintf(whole + length, sizeof whole - length, "/%s", path);
        path = whole;
    }
    errno = before;
    *number = fault.number;
    return fault.mode != NONE && under(&fault, path) ? fault.mode : NONE;
}

static enum mode of_file(int fd, long *number)
{
    struct fault fault;
    char link[64], path[PATH_MAX + 1];
    int before = errno;
    long length = -1;
    look(&fault);
    if (fault.mode != NONE) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX);
    }
    errno = before;
    if (length < 0)
        return NONE;
    path[length] = 0;
    *number = fault.number;
    return under(&fault, path) ? fault.mode : NONE;
}

static void wait_ms(long ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) && errno == EINTR)
        ;
}

/* 0, or the error of a change at this path. */
static int refused(int at, const char *path, int takes_room)
{
    long number;
    switch (of_path(at, path, &number)) {
    case READONLY: return EROFS;
    case FULL: return takes_room ? ENOSPC : 0;
    default: return 0;
    }
}

static int refused_write(int fd)
{
    long number;
    switch (of_file(fd, &number)) {
    case READONLY: return EROFS;
    case FULL: return ENOSPC;
    case NOWRITE: return EIO;
    default: return 0;
    }
}

static int refused_read(int fd)
{
    long number;
    return of_file(fd, &number) == NOREAD ? EIO : 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL_WITH(error)          \
    do {                          \
        int it = (error);         \
        if (it) {                 \
            errno = it;           \
            return -1;            \
        }                         \
    } while (0)

#define WRITING(name, parameters, arguments)      \
    ssize_t name parameters                       \
    {                                             \
        FAIL_WITH(refused_write(fd));             \
        return REAL(name) arguments;              \
    }
WRITING(write, (int fd, const void *from, size_t count), (fd, from, count))
WRITING(writev, (int fd, const struct iovec *from, int count), (fd, from, count))
WRITING(pwrite, (int fd, const void *from, size_t count, off_t at), (fd, from, count, at))
WRITING(pwrite64, (int fd, const void *from, size_t count, off64_t at), (fd, from, count, at))
WRITING(pwritev, (int fd, const struct iovec *from, int count, off_t at), (fd, from, count, at))
WRITING(pwritev64, (int fd, const struct iovec *from, int count, off64_t at), (fd, from, count, at))

#define READING(name, parameters, arguments)      \
    ssize_t name parameters                       \
    {                                             \
        FAIL_WITH(refused_read(fd));              \
        return REAL(name) arguments;              \
    }
READING(read, (int fd, void *into, size_t count), (fd, into, count))
READING(readv, (int fd, const struct iovec *into, int count), (fd, into, count))
READING(pread, (int fd, void *into, size_t count, off_t at), (fd, into, count, at))
READING(pread64, (int fd, void *into, size_t count, off64_t at), (fd, into, count, at))

#define CHANGING(name, parameters, arguments)     \
    int name parameters                           \
    {                                             \
        FAIL_WITH(refused_write(fd));             \
        return REAL(name) arguments;              \
    }
CHANGING(ftruncate, (int fd, off_t length), (fd, length))
CHANGING(ftruncate64, (int fd, off64_t length), (fd, length))
CHANGING(fallocate, (int fd, int mode, off_t at, off_t length), (fd, mode, at, length))
CHANGING(fallocate64, (int fd, int mode, off64_t at, off64_t length), (fd, mode, at, length))

#define SYNCING(name)                             \
    int name(int fd)                              \
    {                                             \
        long number;                              \
        switch (of_file(fd, &number)) {           \
        case NOSYNC: errno = EIO; return -1;      \
        case SLOW: wait_ms(number); break;        \
        default: break;                           \
        }                                         \
        return REAL(name)(fd);                    \
    }
SYNCING(fsync)
SYNCING(fdatasync)

static int refused_open(int at, const char *path, int flags)
{
    if ((flags & O_ACCMODE) == O_RDONLY && !(flags & (O_CREAT | O_TRUNC)))
        return 0;
    return refused(at, path, flags & O_CREAT && syscall(SYS_faccessat, at, path, F_OK));
}

#define OPENING(name, parameters, at, arguments)  \
    int name parameters                           \
    {                                             \
        mode_t mode = 0;                          \
        if (flags & (O_CREAT | __O_TMPFILE)) {    \
            va_list more;                         \
            va_start(more, flags);                \
            mode = va_arg(more, mode_t);          \
            va_end(more);                         \
        }                                         \
        int before = errno;                       \
        FAIL_WITH(refused_open(at, path, flags)); \
        errno = before;                           \
        return REAL(name) arguments;              \
    }
OPENING(open, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPENING(open64, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPENING(openat, (int at, const char *path, int flags, ...), at, (at, path, flags, mode))
OPENING(openat64, (int at, const char *path, int flags, ...), at, (at, path, flags, mode))

#define NAMING(name, parameters, at, path, takes_room, arguments) \
    int name parameters                           \
    {                                             \
        FAIL_WITH(refused(at, path, takes_room)); \
        return REAL(name) arguments;              \
    }
NAMING(unlink, (const char *path), AT_FDCWD, path, 0, (path))
NAMING(unlinkat, (int at, const char *path, int flags), at, path, 0, (at, path, flags))
NAMING(rmdir, (const char *path), AT_FDCWD, path, 0, (path))
NAMING(mkdir, (const char *path, mode_t mode), AT_FDCWD, path, 1, (path, mode))
NAMING(mkdirat, (int at, const char *path, mode_t mode), at, path, 1, (at, path, mode))
NAMING(link, (const char *from, const char *to), AT_FDCWD, to, 1, (from, to))
NAMING(linkat, (int from_at, const char *from, int at, const char *to, int flags), at, to, 1,
       (from_at, from, at, to, flags))

static void slow_swap(int at, const char *path)
{
    long number;
    if (of_path(at, path, &number) == SLOWSWAP)
        wait_ms(number);
}

#define MOVING(name, parameters, at, to, arguments) \
    int name parameters                           \
    {                                             \
        FAIL_WITH(refused(at, to, 0));            \
        slow_swap(at, to);                        \
        return REAL(name) arguments;              \
    }
MOVING(rename, (const char *from, const char *to), AT_FDCWD, to, (from, to))
MOVING(renameat, (int from_at, const char *from, int at, const char *to), at, to,
       (from_at, from, at, to))
MOVING(renameat2, (int from_at, const char *from, int at, const char *to, unsigned flags), at, to,
       (from_at, from, at, to, flags))

int access(const char *path, int mode)
{
    long number;
    if (mode & W_OK && of_path(AT_FDCWD, path, &number) == READONLY)
        FAIL_WITH(EROFS);
    return REAL(access)(path, mode);
}
