/*
 * main.c: the life of the daemon.
 *
 * In the background there are two processes. The parent only waits at a pipe; the child does
 * everything, with its messages on the user's terminal, until the mount answers. Then it writes one
 * byte, and the parent exits with 0. If the pipe ends without a byte, the child has said why.
 *
 * Threads of the daemon:
 *
 *   main      serves the session (with libfuse's own threads), then tears down.
 *   greeter   asks the mount one question, which is answered when the kernel and we have agreed;
 *             then tunes the mount, says that it is ready, and ends.
 *   signals   waits for SIGTERM, SIGINT or SIGHUP. Stops the notifier while requests are still
 *             served, since a notification in progress may need one; then makes the loop end.
 *   notifier, the store's reaper.
 *
 * All signals are blocked in all threads, except SIGUSR1 in main: it does nothing but interrupt
 * libfuse's wait, again and again until the loop has noticed that it is to end.
 *
 * After a crash nothing is left but the mount itself, which the next start detaches.
 */
#include "fs/compat.h"
#include "fs/mountpoint.h"
#include "fs/notifier.h"
#include "fs/ops.h"
#include "fs/options.h"
#include "fs/report.h"
#include "fs/virtual.h"
#include "store/store.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

enum {
	EXIT_USAGE = 2,
	THREADS_MAX = 2,     /* more are slower: each wake-up crosses cores */
	NUDGE_NS = 10000000, /* between two interruptions of the loop */
};

static_assert((int)MOUNTPOINT_WHY_SIZE >= (int)OPTIONS_WHY_SIZE, "one buffer for either");

struct daemon {
	/* constant after start */
	struct options options;
	struct options_machine machine;
	char mount_point[PATH_MAX];
	char transport[96];
	int ready_fd; /* the parent's pipe, -1 in the foreground */
	unsigned threads;
	struct ops_context context;
	struct fuse_session *session;
	int mount_id; /* mountpoint_top() when it was ours; -1: not known */
	pthread_t main_thread, greeter, signals;

	/* atomic */
	atomic_bool ended; /* the loop has; release in main, acquire in signals */
	atomic_bool asked; /* to end by a signal; release in signals, acquire in greeter */
};

/* Where messages go: the terminal until the mount answers, then the system's log. Written by
 * greeter, read by all: relaxed, because either place is right for a message at that moment. */
static atomic_bool log_to_system;

static void log_line(enum fuse_log_level level, const char *format, va_list arguments)
	__attribute__((format(printf, 2, 0)));

static void log_line(enum fuse_log_level level, const char *format, va_list arguments)
{
	if (atomic_load_explicit(&log_to_system, memory_order_relaxed))
		vsyslog((int)level, format, arguments); /* the levels are syslog's */
	else
		vfprintf(stderr, format, arguments);
}

static void say(enum fuse_log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void say(enum fuse_log_level level, const char *format, ...)
{
	va_list arguments;

	if (!atomic_load_explicit(&log_to_system, memory_order_relaxed))
		fputs("ctxfs: ", stderr);
	va_start(arguments, format);
	log_line(level, format, arguments);
	va_end(arguments);
}

/* ---- what is served ---- */

static void on_removed(void *context, uint64_t directory, const char *name, size_t length,
		       uint64_t number, bool known)
{
	if (known)
		notifier_removed(context, directory, name, length, number);
}

static int open_store(struct daemon *d)
{
	struct store_options o = {
		.size_bytes = d->options.size_bytes,
		.shards = d->options.shards,
		.ttl_ns_default = d->options.ttl_ns,
		.root_mode = d->options.root_mode,
		.root_uid = d->options.root_uid,
		.root_gid = d->options.root_gid,
	};
	struct report_facts facts = { .version = CTXFS_VERSION, .transport = d->transport };
	struct ops_context *c = &d->context;
	int err;

	err = store_open(&c->store, &o);
	if (err)
		return err;
	err = report_new(&c->report, c->store, &facts);
	if (!err)
		err = virtual_new(&c->virtual, c->store, c->report, d->options.root_uid,
				  d->options.root_gid);
	if (!err)
		err = notifier_new(&c->notifier, c->store);
	if (!err)
		store_set_events(c->store, &(struct store_events){ .context = c->notifier,
								   .removed = on_removed });
	return err;
}

/* Takes what open_store() has left, complete or not. */
static void close_store(struct daemon *d)
{
	struct ops_context *c = &d->context;

	if (!c->store)
		return;
	if (c->notifier)
		notifier_stop(c->notifier); /* the reaper may be waiting for it */
	virtual_free(c->virtual);
	report_free(c->report);
	store_close(c->store);
	notifier_free(c->notifier);
}

static int mount_session(struct daemon *d)
{
	char *argv[] = { (char[]){ "ctxfs" }, (char[]){ "-o" }, d->options.mount_options,
			 (char[]){ "-d" }, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(d->options.debug ? 4 : 3, argv);

	d->session = fuse_session_new(&args, &ops_table, sizeof(ops_table), &d->context);
	fuse_opt_free_args(&args);
	if (!d->session)
		return -EINVAL;
	if (fuse_session_mount(d->session, d->mount_point)) {
		fuse_session_destroy(d->session);
		d->session = NULL;
		return -EIO;
	}
	d->mount_id = mountpoint_top(d->mount_point);
	return 0;
}

/*
 * Unmounting goes by path, and takes what is on top: only if that is ours. What somebody has
 * mounted over us stays; then our end of the connection is closed, and our mount, below it, answers
 * ENOTCONN. The same where ours is not to be seen any more, because it was detached or moved.
 */
static void unmount_session(struct daemon *d)
{
	int top = mountpoint_top(d->mount_point);
	int null;

	if (top == d->mount_id || d->mount_id < 0) {
		fuse_session_unmount(d->session);
		return;
	}
	if (top >= 0)
		say(FUSE_LOG_WARNING,
		    "something else is mounted over %s, and stays: ctxfs has ended below it; "
		    "umount %s twice to remove both\n",
		    d->mount_point, d->mount_point);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return;                                /* then it is closed with the process */
	(void)dup2(null, fuse_session_fd(d->session)); /* so that libfuse closes what is its own */
	close(null);
}

/* ---- the helping threads ---- */

/* The terminal is given back: nothing may keep a pipeline open that waits for its end. */
static void leave_terminal(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	atomic_store_explicit(&log_to_system, true, memory_order_relaxed);
	if (null < 0)
		return;
	for (int fd = 0; fd <= 2; fd++)
		(void)dup2(null, fd); /* if that fails, the terminal stays: no harm */
	close(null);
}

static void *greet(void *context)
{
	struct daemon *d = context;
	int err = mountpoint_answers(d->mount_point);

	if (err) {
		if (!atomic_load_explicit(&d->asked, memory_order_acquire))
			say(FUSE_LOG_ERR, "the mount at %s does not answer: %s\n", d->mount_point,
			    strerror(-err));
		return NULL;
	}
	mountpoint_tune(d->mount_point);
	if (d->ready_fd < 0) {
		say(FUSE_LOG_INFO, "mounted at %s (%s)\n", d->mount_point, d->transport);
		return NULL;
	}
	leave_terminal();
	/* If nobody waits any more, nobody needs to know. */
	while (write(d->ready_fd, "", 1) < 0 && errno == EINTR)
		;
	close(d->ready_fd);
	return NULL;
}

static void ending_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
}

static void *wait_for_signals(void *context)
{
	struct daemon *d = context;
	const struct timespec pause = { .tv_nsec = NUDGE_NS };
	sigset_t set;
	int signal_number;

	ending_signals(&set);
	while (sigwait(&set, &signal_number))
		;
	/* main sends the same signal when the loop has ended by itself. */
	if (atomic_load_explicit(&d->ended, memory_order_acquire))
		return NULL;
	atomic_store_explicit(&d->asked, true, memory_order_release);
	notifier_stop(d->context.notifier);
	fuse_session_exit(d->session);
	while (!atomic_load_explicit(&d->ended, memory_order_acquire)) {
		pthread_kill(d->main_thread, SIGUSR1);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static void on_nudge(int signal_number)
{
	(void)signal_number; /* that a wait is interrupted is all */
}

/* Threads that are started later inherit the mask. */
static void set_signals(void)
{
	struct sigaction nudge = { .sa_handler = on_nudge };
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	sigemptyset(&nudge.sa_mask);
	sigemptyset(&ignore.sa_mask);
	(void)sigaction(SIGUSR1, &nudge, NULL); /* they cannot fail for these signals */
	(void)sigaction(SIGPIPE, &ignore, NULL);
}

static int start_threads(struct daemon *d)
{
	sigset_t set;
	int err;

	d->main_thread = pthread_self();
	err = notifier_start(d->context.notifier, d->session);
	if (err)
		return err;
	err = pthread_create(&d->signals, NULL, wait_for_signals, d);
	if (err)
		return -err;
	err = pthread_create(&d->greeter, NULL, greet, d);
	if (err) {
		atomic_store_explicit(&d->ended, true, memory_order_release);
		pthread_kill(d->signals, SIGTERM);
		pthread_join(d->signals, NULL);
		return -err;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	return 0;
}

/* ---- serving ---- */

static int loop(struct daemon *d)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int result;

	if (!config)
		return -ENOMEM;
	fuse_loop_cfg_set_max_threads(config, d->threads);
	fuse_loop_cfg_set_clone_fd(config, 0);
	result = fuse_session_loop_mt(d->session, config);
	fuse_loop_cfg_destroy(config);
	return result < 0 ? result : 0; /* above 0: the number of a signal */
}

/*
 * Serves until it is unmounted or asked to end. Unmounting here is lazy: files that are open
 * answer ENOTCONN from then on.
 */
static int serve(struct daemon *d)
{
	int err = start_threads(d);

	if (err) {
		say(FUSE_LOG_ERR, "cannot start a thread: %s\n", strerror(-err));
		notifier_stop(d->context.notifier);
		unmount_session(d);
		return err;
	}
	err = loop(d);
	if (err)
		say(FUSE_LOG_ERR, "serving %s ended: %s\n", d->mount_point, strerror(-err));
	atomic_store_explicit(&d->ended, true, memory_order_release);
	pthread_kill(d->signals, SIGTERM);
	pthread_join(d->signals, NULL);
	unmount_session(d);
	pthread_join(d->greeter, NULL);
	notifier_stop(d->context.notifier);
	return err;
}

static int run(struct daemon *d)
{
	int err;

	set_signals();
	openlog("ctxfs", LOG_PID, LOG_DAEMON);
	fuse_set_log_func(log_line);
	err = open_store(d);
	if (err) {
		say(FUSE_LOG_ERR, "cannot open the store: %s\n", strerror(-err));
		goto close;
	}
	err = mount_session(d);
	if (err) {
		say(FUSE_LOG_ERR, "cannot mount at %s\n", d->mount_point);
		goto close;
	}
	err = serve(d);
	fuse_session_destroy(d->session);
close:
	close_store(d);
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- starting ---- */

/* The parent's part: the child has said what there is to say. */
static int await_child(int fd, pid_t pid)
{
	char byte;
	ssize_t count;
	int status;

	do
		count = read(fd, &byte, 1);
	while (count < 0 && errno == EINTR);
	if (count == 1)
		return EXIT_SUCCESS;
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return EXIT_FAILURE;
	}
	if (WIFSIGNALED(status))
		say(FUSE_LOG_ERR, "the daemon was killed by signal %d\n", WTERMSIG(status));
	return EXIT_FAILURE;
}

static int run_in_background(struct daemon *d)
{
	int fds[2];
	pid_t pid;

	/* What a caller has left open (a lock, a pipe) is not the daemon's to keep. */
	(void)close_range(3, ~0U, 0); /* an older kernel: then they stay open */
	if (pipe2(fds, O_CLOEXEC)) {
		say(FUSE_LOG_ERR, "cannot make a pipe: %s\n", strerror(errno));
		return EXIT_FAILURE;
	}
	pid = fork();
	if (pid < 0) {
		say(FUSE_LOG_ERR, "cannot start the daemon: %s\n", strerror(errno));
		return EXIT_FAILURE;
	}
	if (pid > 0) {
		close(fds[1]);
		return await_child(fds[0], pid);
	}
	close(fds[0]);
	d->ready_fd = fds[1];
	(void)setsid(); /* cannot fail in a child */
	if (chdir("/"))
		say(FUSE_LOG_WARNING, "cannot change to /: %s\n", strerror(errno));
	return run(d);
}

/*
 * Whoever starts us may have closed some of 0 to 2. Whatever is opened next would get their
 * numbers, and be lost when the terminal is given back.
 */
static void fill_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd > 2)
		close(fd);
}

static void look_at_machine(struct options_machine *m)
{
	long pages = sysconf(_SC_PHYS_PAGES);
	long page = sysconf(_SC_PAGESIZE);

	m->uid = geteuid();
	m->gid = getegid();
	m->memory_bytes = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
}

static void choose_transport(struct daemon *d)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	const char *why = "";

	d->threads = d->options.single_thread || cores < 2 ? 1 : THREADS_MAX;
	if (d->options.transport == OPTIONS_TRANSPORT_AUTO)
		why = ", the only way of this version";
	snprintf(d->transport, sizeof(d->transport), "/dev/fuse, %u thread%s%s", d->threads,
		 d->threads == 1 ? "" : "s", why);
}

int main(int argc, char **argv)
{
	static struct daemon d = { .ready_fd = -1, .mount_id = -1 };
	char why[MOUNTPOINT_WHY_SIZE];
	int result = EXIT_FAILURE;

	fill_standard_descriptors();
	look_at_machine(&d.machine);
	if (options_parse(&d.options, argc, argv, &d.machine, why)) {
		say(FUSE_LOG_ERR, "%s\n", why);
		return EXIT_USAGE;
	}
	if (d.options.help || d.options.version) {
		if (d.options.help)
			fputs(options_help(), stdout);
		else
			printf("ctxfs %s (libfuse %s)\n", CTXFS_VERSION, fuse_pkgversion());
		options_free(&d.options);
		return EXIT_SUCCESS;
	}
	if (mountpoint_prepare(d.options.mount_point, d.mount_point, why)) {
		say(FUSE_LOG_ERR, "%s\n", why);
		goto done;
	}
	d.context.memory_bytes = d.machine.memory_bytes;
	choose_transport(&d);
	if (d.options.foreground || d.options.debug)
		result = run(&d);
	else
		result = run_in_background(&d);
done:
	options_free(&d.options);
	return result;
}
