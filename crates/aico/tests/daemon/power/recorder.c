// Stands between a program and the C library's file calls (LD_PRELOAD): writes down, in the order
// in which they happen, the changes that the program makes beneath one folder, what they contain
// and what was synced. Can fill the disk at a given write.
//
//   AICO_RECORD_ROOT     the folder, absolute and without links
//   AICO_RECORD_SKIP     folders in it that are not looked at, with colons between
//   AICO_RECORD_LOG      where the records go (recording.rs reads them)
//   AICO_RECORD_CONTROL  one page, shared with the test: see `struct control`
//
// Nothing is kept from one call to the next: what a descriptor is, is asked of the system each time,
// so that copies of descriptors and of processes need no care.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind {
    CREATED = 1, WROTE, LENGTH, SYNCED, FOLDER_MADE, FOLDER_REMOVED, REMOVED, RENAMED, LINKED,
    FOLDER_SYNCED, MAPPED, MODE
};

struct record {
    uint32_t size; // of all of it: two paths and the data follow
    uint32_t kind;
    uint64_t file; // inode
    uint64_t at;
    uint32_t mode;
    uint32_t first;
    uint32_t second;
    uint32_t data;
};

struct control {
    _Atomic uint64_t records; // written so far
    _Atomic uint64_t takes;   // calls so far that take space
    _Atomic uint64_t full;    // from this one on there is none; 0: there is always some
};

static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_length;
static char skip[PATH_MAX];
static int log_file = -1;
static struct control *control;

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("AICO_RECORD_ROOT"), *to = getenv("AICO_RECORD_LOG");
    const char *page = getenv("AICO_RECORD_CONTROL"), *without = getenv("AICO_RECORD_SKIP");
    if (!folder || !to || !page || strlen(folder) >= sizeof root) return;
    // The model process is confined to calls that it needs, and changes nothing.
    char about[4096];
    int self = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t got = self < 0 ? 0 : read(self, about, sizeof about);
    if (self >= 0) syscall(SYS_close, self);
    if (got > 0 && memmem(about, (size_t)got, "modelservice", 12)) return;
    int shared = (int)syscall(SYS_openat, AT_FDCWD, page, O_RDWR | O_CLOEXEC);
    if (shared < 0) return;
    void *mapped = (void *)syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
    syscall(SYS_close, shared);
    if (mapped == MAP_FAILED) return;
    control = mapped;
    log_file = (int)syscall(SYS_openat, AT_FDCWD, to, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (without && strlen(without) < sizeof skip) strcpy(skip, without);
    strcpy(root, folder);
    root_length = log_file < 0 ? 0 : strlen(root);
}

static int beneath(const char *path, const char *folder, size_t length) {
    return strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}

// Whether a path is one that is looked at.
static int ours(const char *path) {
    if (!root_length || !beneath(path, root, root_length)) return 0;
    for (const char *next = skip; *next;) {
        size_t length = strcspn(next, ":");
        if (length && beneath(path, next, length)) return 0;
        next += length + (next[length] == ':');
    }
    return 1;
}

// What an open descriptor is, when it is looked at.
static int ours_open(int fd, struct stat *about, char *path) {
    if (!root_length || fd < 0 || fstat(fd, about)) return 0;
    if (!S_ISREG(about->st_mode) && !S_ISDIR(about->st_mode)) return 0;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return ours(path);
}

// An absolute path of a name: its folder without links, its last part as it is.
static int absolute(int folder, const char *name, char *path) {
    char whole[2 * PATH_MAX], above[PATH_MAX];
    if (!root_length || !name || !*name || strlen(name) >= PATH_MAX) return 0;
    if (*name == '/') {
        strcpy(whole, name);
    } else {
        char link[64] = "/proc/self/cwd";
        if (folder != AT_FDCWD) snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, whole, PATH_MAX - 1);
        if (length <= 0) return 0;
        whole[length] = '/';
        strcpy(whole + length + 1, name);
    }
    size_t length = strlen(whole);
    while (length > 1 && whole[length - 1] == '/') whole[--length] = 0;
    char *last = strrchr(whole, '/');
    if (!last) return 0;
    *last = 0;
    if (!realpath(*whole ? whole : "/", above)) return 0;
    if (strlen(above) + strlen(last + 1) + 2 > PATH_MAX) return 0;
    sprintf(path, "%s/%s", above, last + 1);
    return ours(path);
}

static void put(struct record record, const char *first, const char *second,
                const struct iovec *data, int parts) {
    int kept = errno;
    struct iovec all[3 + 64];
    size_t total = 0;
    int count = 3;
    for (int part = 0; part < parts && part < 64 && total < record.data; part++) {
        size_t length = data[part].iov_len;
        if (length > record.data - total) length = record.data - total;
        all[count].iov_base = data[part].iov_base;
        all[count++].iov_len = length;
        total += length;
    }
    if (total != record.data) abort();
    record.first = first ? (uint32_t)strlen(first) : 0;
    record.second = second ? (uint32_t)strlen(second) : 0;
    record.size = (uint32_t)(sizeof record + record.first + record.second + total);
    all[0] = (struct iovec){&record, sizeof record};
    all[1] = (struct iovec){(void *)first, record.first};
    all[2] = (struct iovec){(void *)second, record.second};
    // One call: processes share the log.
    if (syscall(SYS_writev, log_file, all, count) != (long)record.size) abort();
    atomic_fetch_add(&control->records, 1);
    errno = kept;
}

// Counts a call that takes space. Whether there is none for it; the first that finds none and
// has `length` bytes to write gets half of them in, as a disk that fills up does.
static int full(size_t *length) {
    uint64_t number = atomic_fetch_add(&control->takes, 1) + 1, from = atomic_load(&control->full);
    if (!from || number < from) return 0;
    size_t half = length ? *length / 2 / 512 * 512 : 0;
    if (number == from && half) {
        *length = half;
        return 0;
    }
    errno = ENOSPC;
    return 1;
}

// ---- opening ------------------------------------------------------------------------------------

static int open_any(int folder, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    int changes = (flags & (O_CREAT | O_TRUNC)) && (flags & O_TMPFILE) != O_TMPFILE;
    if (!changes || !absolute(folder, name, path))
        return (int)syscall(SYS_openat, folder, name, flags, mode);
    pthread_mutex_lock(&one);
    struct stat before, after;
    int there = fstatat(AT_FDCWD, path, &before, AT_SYMLINK_NOFOLLOW) == 0;
    int fd = -1;
    if (there || !(flags & O_CREAT) || !full(NULL))
        fd = (int)syscall(SYS_openat, folder, name, flags, mode);
    if (fd >= 0 && fstat(fd, &after) == 0 && S_ISREG(after.st_mode)) {
        struct record record = {.file = after.st_ino, .mode = after.st_mode & 07777};
        if (!there) {
            record.kind = CREATED;
            put(record, path, NULL, NULL, 0);
        } else if ((flags & O_TRUNC) && before.st_size) {
            record.kind = LENGTH;
            put(record, NULL, NULL, NULL, 0);
        }
    }
    pthread_mutex_unlock(&one);
    return fd;
}

#define MODE_OF(flags, last)                                                                      \
    mode_t mode = 0;                                                                              \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                        \
        va_list rest;                                                                             \
        va_start(rest, last);                                                                     \
        mode = va_arg(rest, mode_t);                                                              \
        va_end(rest);                                                                             \
    }

int open(const char *name, int flags, ...) { MODE_OF(flags, flags) return open_any(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE_OF(flags, flags) return open_any(AT_FDCWD, name, flags | O_LARGEFILE, mode); }
int openat(int folder, const char *name, int flags, ...) { MODE_OF(flags, flags) return open_any(folder, name, flags, mode); }
int openat64(int folder, const char *name, int flags, ...) { MODE_OF(flags, flags) return open_any(folder, name, flags | O_LARGEFILE, mode); }
int creat(const char *name, mode_t mode) { return open_any(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *name, mode_t mode) { return open_any(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC | O_LARGEFILE, mode); }

// ---- writing ------------------------------------------------------------------------------------

// `at` < 0: where the descriptor stands.
static ssize_t write_any(int fd, const struct iovec *data, int parts, off_t at) {
    struct stat about;
    char path[PATH_MAX];
    int looked_at = ours_open(fd, &about, path) && S_ISREG(about.st_mode);
    struct iovec first;
    if (looked_at) {
        pthread_mutex_lock(&one);
        size_t length = parts == 1 ? data->iov_len : 0;
        if (full(&length)) {
            pthread_mutex_unlock(&one);
            return -1;
        }
        if (parts == 1 && length != data->iov_len) {
            first = (struct iovec){data->iov_base, length};
            data = &first;
        }
    }
    ssize_t done = at < 0 ? syscall(SYS_writev, fd, data, parts)
                          : syscall(SYS_pwritev, fd, data, parts, (long)at, 0L);
    if (looked_at) {
        if (done > 0) {
            off_t from = at < 0 ? lseek(fd, 0, SEEK_CUR) - done : at;
            struct record record = {
                .kind = WROTE, .file = about.st_ino, .at = (uint64_t)from, .data = (uint32_t)done};
            put(record, NULL, NULL, data, parts);
        }
        pthread_mutex_unlock(&one);
    }
    return done;
}

static ssize_t write_one(int fd, const void *from, size_t length, off_t at) {
    struct iovec data = {(void *)from, length};
    return write_any(fd, &data, 1, at);
}

ssize_t write(int fd, const void *from, size_t length) {
    return root_length ? write_one(fd, from, length, -1) : syscall(SYS_write, fd, from, length);
}
ssize_t pwrite(int fd, const void *from, size_t length, off_t at) {
    return root_length ? write_one(fd, from, length, at) : syscall(SYS_pwrite64, fd, from, length, at);
}
ssize_t pwrite64(int fd, const void *from, size_t length, off64_t at) { return pwrite(fd, from, length, at); }
ssize_t writev(int fd, const struct iovec *data, int parts) {
    return root_length ? write_any(fd, data, parts, -1) : syscall(SYS_writev, fd, data, parts);
}
ssize_t pwritev(int fd, const struct iovec *data, int parts, off_t at) { return write_any(fd, data, parts, at); }
ssize_t pwritev64(int fd, const struct iovec *data, int parts, off64_t at) { return write_any(fd, data, parts, at); }

// Those who copy inside the system have another way, which is seen here.
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t length, unsigned flags) {
    if (!root_length) return syscall(SYS_copy_file_range, in, from, out, to, length, flags);
    errno = ENOSYS;
    return -1;
}
ssize_t sendfile(int out, int in, off_t *from, size_t length) {
    if (!root_length) return syscall(SYS_sendfile, out, in, from, length);
    errno = ENOSYS;
    return -1;
}
ssize_t sendfile64(int out, int in, off64_t *from, size_t length) { return sendfile(out, in, from, length); }

static int length_any(int fd, off_t length) {
    struct stat about;
    char path[PATH_MAX];
    if (!ours_open(fd, &about, path)) return (int)syscall(SYS_ftruncate, fd, length);
    pthread_mutex_lock(&one);
    int done = -1;
    if (length <= about.st_size || !full(NULL)) done = (int)syscall(SYS_ftruncate, fd, length);
    if (done == 0) {
        struct record record = {.kind = LENGTH, .file = about.st_ino, .at = (uint64_t)length};
        put(record, NULL, NULL, NULL, 0);
    }
    pthread_mutex_unlock(&one);
    return done;
}
int ftruncate(int fd, off_t length) { return length_any(fd, length); }
int ftruncate64(int fd, off64_t length) { return length_any(fd, length); }

int fallocate(int fd, int mode, off_t at, off_t length) {
    struct stat about;
    char path[PATH_MAX];
    if (!ours_open(fd, &about, path)) return (int)syscall(SYS_fallocate, fd, mode, at, length);
    // Every caller has another way, which is seen here.
    errno = EOPNOTSUPP;
    return -1;
}
int fallocate64(int fd, int mode, off64_t at, off64_t length) { return fallocate(fd, mode, at, length); }
int posix_fallocate(int fd, off_t at, off_t length) {
    (void)fd, (void)at, (void)length;
    return EOPNOTSUPP;
}
int posix_fallocate64(int fd, off64_t at, off64_t length) { return posix_fallocate(fd, at, length); }

void *mmap(void *where, size_t length, int protection, int flags, int fd, off_t at) {
    void *mapped = (void *)syscall(SYS_mmap, where, length, protection, flags, fd, at);
    struct stat about;
    char path[PATH_MAX];
    if (mapped != MAP_FAILED && (protection & PROT_WRITE) && (flags & MAP_SHARED) && fd >= 0 &&
        ours_open(fd, &about, path)) {
        pthread_mutex_lock(&one);
        put((struct record){.kind = MAPPED, .file = about.st_ino}, path, NULL, NULL, 0);
        pthread_mutex_unlock(&one);
    }
    return mapped;
}
void *mmap64(void *where, size_t length, int protection, int flags, int fd, off64_t at) {
    return mmap(where, length, protection, flags, fd, at);
}

// ---- syncing ------------------------------------------------------------------------------------

static int sync_any(int fd, long call) {
    struct stat about;
    char path[PATH_MAX];
    if (!ours_open(fd, &about, path)) return (int)syscall(call, fd);
    // What counts for the test is what was asked for: the medium itself need not be waited for.
    pthread_mutex_lock(&one);
    struct record record = {.kind = S_ISDIR(about.st_mode) ? FOLDER_SYNCED : SYNCED, .file = about.st_ino};
    put(record, path, NULL, NULL, 0);
    pthread_mutex_unlock(&one);
    return 0;
}
int fsync(int fd) { return sync_any(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_any(fd, SYS_fdatasync); }

// ---- names --------------------------------------------------------------------------------------

static int remove_any(int folder, const char *name, int flags) {
    char path[PATH_MAX];
    int looked_at = absolute(folder, name, path);
    if (looked_at) pthread_mutex_lock(&one);
    int done = (int)syscall(SYS_unlinkat, folder, name, flags);
    if (looked_at) {
        if (done == 0) put((struct record){.kind = flags & AT_REMOVEDIR ? FOLDER_REMOVED : REMOVED}, path, NULL, NULL, 0);
        pthread_mutex_unlock(&one);
    }
    return done;
}
int unlink(const char *name) { return remove_any(AT_FDCWD, name, 0); }
int unlinkat(int folder, const char *name, int flags) { return remove_any(folder, name, flags); }
int rmdir(const char *name) { return remove_any(AT_FDCWD, name, AT_REMOVEDIR); }

static int make_folder(int folder, const char *name, mode_t mode) {
    char path[PATH_MAX];
    int looked_at = absolute(folder, name, path);
    if (!looked_at) return (int)syscall(SYS_mkdirat, folder, name, mode);
    pthread_mutex_lock(&one);
    struct stat about;
    int done = -1;
    if (fstatat(AT_FDCWD, path, &about, AT_SYMLINK_NOFOLLOW) == 0 || !full(NULL))
        done = (int)syscall(SYS_mkdirat, folder, name, mode);
    if (done == 0 && fstatat(AT_FDCWD, path, &about, AT_SYMLINK_NOFOLLOW) == 0) {
        struct record record = {.kind = FOLDER_MADE, .file = about.st_ino, .mode = about.st_mode & 07777};
        put(record, path, NULL, NULL, 0);
    }
    pthread_mutex_unlock(&one);
    return done;
}
int mkdir(const char *name, mode_t mode) { return make_folder(AT_FDCWD, name, mode); }
int mkdirat(int folder, const char *name, mode_t mode) { return make_folder(folder, name, mode); }

static int rename_any(int folder, const char *name, int other, const char *new_name, unsigned flags) {
    char from[PATH_MAX], to[PATH_MAX];
    int looked_at = absolute(folder, name, from), also = absolute(other, new_name, to);
    if (looked_at || also) pthread_mutex_lock(&one);
    int done = (int)syscall(SYS_renameat2, folder, name, other, new_name, flags);
    if (looked_at || also) {
        // A test that moves something in or out is not one that this can follow.
        if (done == 0 && (!looked_at || !also || (flags & RENAME_EXCHANGE))) abort();
        if (done == 0) put((struct record){.kind = RENAMED}, from, to, NULL, 0);
        pthread_mutex_unlock(&one);
    }
    return done;
}
int rename(const char *name, const char *to) { return rename_any(AT_FDCWD, name, AT_FDCWD, to, 0); }
int renameat(int folder, const char *name, int other, const char *to) { return rename_any(folder, name, other, to, 0); }
int renameat2(int folder, const char *name, int other, const char *to, unsigned flags) {
    return rename_any(folder, name, other, to, flags);
}

static int link_any(int folder, const char *name, int other, const char *new_name, int flags) {
    char from[PATH_MAX], to[PATH_MAX];
    int looked_at = absolute(folder, name, from) & absolute(other, new_name, to);
    if (looked_at) pthread_mutex_lock(&one);
    int done = (int)syscall(SYS_linkat, folder, name, other, new_name, flags);
    if (looked_at) {
        if (done == 0) put((struct record){.kind = LINKED}, from, to, NULL, 0);
        pthread_mutex_unlock(&one);
    }
    return done;
}
int link(const char *name, const char *to) { return link_any(AT_FDCWD, name, AT_FDCWD, to, 0); }
int linkat(int folder, const char *name, int other, const char *to, int flags) {
    return link_any(folder, name, other, to, flags);
}

static int mode_any(int folder, const char *name, mode_t mode) {
    char path[PATH_MAX];
    int looked_at = absolute(folder, name, path);
    if (looked_at) pthread_mutex_lock(&one);
    int done = (int)syscall(SYS_fchmodat, folder, name, mode);
    if (looked_at) {
        if (done == 0) put((struct record){.kind = MODE, .mode = mode & 07777}, path, NULL, NULL, 0);
        pthread_mutex_unlock(&one);
    }
    return done;
}
int chmod(const char *name, mode_t mode) { return mode_any(AT_FDCWD, name, mode); }
int fchmodat(int folder, const char *name, mode_t mode, int flags) { (void)flags; return mode_any(folder, name, mode); }
int fchmod(int fd, mode_t mode) {
    struct stat about;
    char path[PATH_MAX];
    int looked_at = ours_open(fd, &about, path);
    if (looked_at) pthread_mutex_lock(&one);
    int done = (int)syscall(SYS_fchmod, fd, mode);
    if (looked_at) {
        if (done == 0) put((struct record){.kind = MODE, .mode = mode & 07777}, path, NULL, NULL, 0);
        pthread_mutex_unlock(&one);
    }
    return done;
}
