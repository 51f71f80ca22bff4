/*
 * mountpoint.c: before and after mounting.
 *
 * A daemon that was killed leaves a mount that answers ENOTCONN ("Transport endpoint is not
 * connected"). stat(2) does not show it: the kernel keeps the attributes of the root. statfs(2)
 * always asks, so it is the question to put, to a mount that is ours; not to just any, which may be
 * a network that hangs. What is mounted where is read from /proc/self/mountinfo, asking nobody.
 *
 * Only mounts of the type fuse.ctxfs are ours to detach, dead or not.
 *
 * A daemon that is stopped, or a network file system on the way, can keep any of these questions
 * for ever. So a thread asks them, and whoever starts ctxfs hears of it when ANSWER_S have passed.
 */
#include "fs/mountpoint.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	STALE_MAX = 16, /* mounts left by killed daemons, one above the other */
	ANSWER_S = 5,   /* for all questions that a start asks */
	READ_AHEAD_KB = 1024,
	DEVICE_MAX = 32, /* "major:minor" */
	TYPE_MAX = 64,
};

#define TYPE_OURS "fuse.ctxfs"

struct mount {
	bool found;
	int id;
	char device[DEVICE_MAX];
	char type[TYPE_MAX];
};

static int explain(char *why, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int explain(char *why, int err, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(why, MOUNTPOINT_WHY_SIZE, format, arguments);
	va_end(arguments);
	return err;
}

/* ---- what is mounted there ---- */

/* Undoes \040 and its like, in place. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from; from++) {
		unsigned code;

		if (from[0] == '\\' && sscanf(from + 1, "%3o", &code) == 1 && code < 256) {
			*to++ = (char)code;
			from += 3;
		} else {
			*to++ = *from;
		}
	}
	*to = '\0';
}

/*
 * One line: id, parent, device, root, mount point, options, optional fields, "-", type, source, …
 * Returns whether it is about this mount point.
 */
static bool parse_line(char *line, const char *absolute, struct mount *m)
{
	char *separator = strstr(line, " - ");
	char *save = NULL;
	char *field[5];

	if (!separator || sscanf(separator, " - %63s", m->type) != 1)
		return false;
	for (size_t i = 0; i < 5; i++) {
		field[i] = strtok_r(i == 0 ? line : NULL, " ", &save);
		if (!field[i])
			return false;
	}
	unescape(field[4]);
	m->id = atoi(field[0]);
	snprintf(m->device, sizeof(m->device), "%s", field[2]);
	return strcmp(field[4], absolute) == 0;
}

static_assert(TYPE_MAX == 64, "the format above has the width in it");

/* What is mounted there; of several, the one on top, which is listed last. */
static struct mount find_mount(const char *absolute)
{
	struct mount top = { .found = false };
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t size = 0;

	if (!f)
		return top;
	while (getline(&line, &size, f) > 0) {
		struct mount m;

		if (parse_line(line, absolute, &m)) {
			top = m;
			top.found = true;
		}
	}
	free(line);
	fclose(f);
	return top;
}

int mountpoint_top(const char *absolute)
{
	struct mount m = find_mount(absolute);

	return m.found ? m.id : -1;
}

static bool is_stale(int err)
{
	return err == -ENOTCONN || err == -ECONNABORTED;
}

/* ---- detaching ---- */

/* As an ordinary user: fusermount3 has the right. */
static int detach_by_helper(const char *absolute)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		execlp("fusermount3", "fusermount3", "-u", "-z", "-q", "--", absolute,
		       (char *)NULL);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

int mountpoint_detach(const char *absolute)
{
	if (umount2(absolute, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		return 0;
	if (errno != EPERM)
		return -errno;
	return detach_by_helper(absolute);
}

/* ---- preparing ---- */

/* Where the last part of the path does not answer, everything before it still can be resolved. */
static int resolve_parent(const char *path, char absolute[PATH_MAX])
{
	char *copy = strdup(path);
	char parent[PATH_MAX];
	char *end, *last;
	int length;

	if (!copy)
		return -ENOMEM;
	for (end = copy + strlen(copy); end > copy + 1 && end[-1] == '/'; end--)
		end[-1] = '\0';
	last = strrchr(copy, '/');
	if (last)
		*last = '\0';
	if (!realpath(!last ? "." : last == copy ? "/" : copy, parent)) {
		length = -errno;
	} else {
		length = snprintf(absolute, PATH_MAX, "%s/%s", parent[1] ? parent : "",
				  last ? last + 1 : copy);
	}
	free(copy);
	if (length < 0)
		return length;
	return length < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int resolve(const char *path, char absolute[PATH_MAX])
{
	int err;

	if (realpath(path, absolute))
		return 0;
	err = -errno;
	return is_stale(err) ? resolve_parent(path, absolute) : err;
}

int mountpoint_answers(const char *absolute)
{
	struct statfs figures;

	return statfs(absolute, &figures) ? -errno : 0;
}

/* 1: a dead ctxfs is there, 0: there is a directory to be had, or -errno, explained. */
static int look(const char *absolute, char *why)
{
	struct mount m = find_mount(absolute);
	struct stat st;
	int err;

	if (m.found && strcmp(m.type, TYPE_OURS) == 0) {
		if (is_stale(mountpoint_answers(absolute)))
			return 1;
		return explain(why, -EBUSY, "a ctxfs is mounted at %s already; umount %s first",
			       absolute, absolute);
	}
	err = stat(absolute, &st) ? -errno : 0;
	if (!is_stale(err))
		return 0;
	return explain(why, err,
		       "%s: %s; what is mounted there (%s) is no ctxfs, and not ctxfs's to detach",
		       absolute, strerror(-err), m.found ? m.type : "or above");
}

static int detach_stale(const char *absolute, char *why)
{
	int found = look(absolute, why);

	for (int i = 0; found == 1 && i < STALE_MAX; i++) {
		int err = mountpoint_detach(absolute);

		if (err)
			return explain(why, err,
				       "%s is a mount whose daemon has died, and cannot be "
				       "detached: %s; try umount -l %s as root",
				       absolute, strerror(-err), absolute);
		found = look(absolute, why);
	}
	if (found == 1)
		return explain(why, -EBUSY, "more than %d dead mounts at %s; umount -l them",
			       STALE_MAX, absolute);
	return found;
}

static int prepare(const char *path, char absolute[PATH_MAX], char *why)
{
	struct stat st;
	int err = resolve(path, absolute);

	if (err == -ENOENT)
		return explain(why, err,
			       "the mount point %s does not exist; make it with "
			       "mkdir -p %s",
			       path, path);
	if (err)
		return explain(why, err, "the mount point %s: %s", path, strerror(-err));
	if (strcmp(absolute, "/") == 0)
		return explain(why, -EBUSY,
			       "the mount point %s is the root of all files, and would hide them; "
			       "give another directory",
			       path);
	err = detach_stale(absolute, why);
	if (err)
		return err;
	if (stat(absolute, &st)) {
		err = -errno;
		return explain(why, err, "the mount point %s: %s", absolute, strerror(-err));
	}
	if (!S_ISDIR(st.st_mode))
		return explain(why, -ENOTDIR, "the mount point %s is not a directory", absolute);
	return 0;
}

/* What the asking thread is given, and gives. Lost if it never ends: so will the process. */
struct inquiry {
	char path[PATH_MAX], absolute[PATH_MAX], why[MOUNTPOINT_WHY_SIZE];
	int result;
};

static void *ask(void *context)
{
	struct inquiry *q = context;

	q->result = prepare(q->path, q->absolute, q->why);
	return NULL;
}

/* The answer, or -errno without an explanation. Late: there is none yet, and q is the thread's. */
static int ask_with_deadline(struct inquiry *q, bool *late)
{
	struct timespec deadline;
	pthread_t thread;
	int err = pthread_create(&thread, NULL, ask, q);

	if (err)
		return -err;
	err = clock_gettime(CLOCK_REALTIME, &deadline);
	assert(!err);
	deadline.tv_sec += ANSWER_S;
	err = pthread_timedjoin_np(thread, NULL, &deadline);
	*late = err != 0;
	return err ? -err : q->result;
}

int mountpoint_prepare(const char *path, char absolute[PATH_MAX], char why[MOUNTPOINT_WHY_SIZE])
{
	struct inquiry *q;
	bool late = false;
	int result;

	if (strlen(path) >= PATH_MAX)
		return explain(why, -ENAMETOOLONG, "the name of the mount point is too long");
	q = calloc(1, sizeof(*q));
	if (!q)
		return explain(why, -ENOMEM, "out of memory");
	snprintf(q->path, sizeof(q->path), "%s", path);
	result = ask_with_deadline(q, &late);
	if (late)
		return explain(why, result,
			       "the mount point %s has not answered for %d s: what is mounted "
			       "there, or above, hangs; umount -l detaches it",
			       path, ANSWER_S);
	if (result && !q->why[0])
		(void)explain(q->why, result, "cannot start a thread: %s", strerror(-result));
	if (result)
		memcpy(why, q->why, sizeof(q->why));
	else
		memcpy(absolute, q->absolute, sizeof(q->absolute));
	free(q);
	return result;
}

/* ---- tuning ---- */

void mountpoint_tune(const char *absolute)
{
	struct mount m = find_mount(absolute);
	char path[64 + DEVICE_MAX];
	FILE *f;

	if (!m.found)
		return;
	snprintf(path, sizeof(path), "/sys/class/bdi/%s/read_ahead_kb", m.device);
	f = fopen(path, "we");
	if (!f)
		return;
	fprintf(f, "%d\n", READ_AHEAD_KB);
	(void)fclose(f); /* it is an optimization, and was not granted */
}
