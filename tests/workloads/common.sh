# Sourced by the workloads. POSIX sh, for busybox.
#
# A workload is a row of steps, any of which may fail under injection: it goes on, counts, never hangs, and cleans up.
# Its last line is "NAME: N steps, M failed", its exit status 1 when a step failed. It makes the same system calls every
# time: fixed names and UUIDs, nothing in the background, no helper that waits beside it.
#
# The verbs are the same everywhere:
#   all      cleanup, setup, run, cleanup; what a workload does when it is given no verb
#   setup    what run needs and what is not under test: nothing for a disk, the server for NFS
#   run      what is under test: mkfs, mount, the file operations, umount; for NFS without mkfs
#   mount    setup, and as far as the mount: for
#   mix      the file operations alone, on what mount left mounted
#   cleanup  back to the state before, whatever is left over, of a killed run too; an error when that can't be done
# So it is `injector sweep --cleanup 'ext4.sh cleanup' -- ext4.sh`, and for NFS
# `injector sweep --setup 'nfs42.sh setup' --cleanup 'nfs42.sh cleanup' -- nfs42.sh run`.
# setup and mount are not meant to be under injection: they stop at the first failure, and say it.

here=$(dirname "$0")
top=${INJECTOR_WORKLOAD_DIR:-/tmp/injector-workload}
# Seconds. After a step that failed later than this, no more are tried: over NFS each could wait for its reply.
limit=${INJECTOR_WORKLOAD_LIMIT:-300}

steps=0
failed=0
over=

die() {
	echo "$0: $*" >&2
	exit 1
}

# now: sets $now to the seconds since boot, without a program
now() {
	now=0
	{ read -r now _ </proc/uptime; } 2>/dev/null
	now=${now%%.*}
}

now
deadline=$((now + limit))

# step COMMAND...: counted; what it complains of is shown
step() {
	steps=$((steps + 1))
	[ -z "$over" ] && "$@" >/dev/null && return
	failed=$((failed + 1))
	[ -n "$over" ] && return 1
	echo "$name: failed: $*" >&2
	now
	if [ "$now" -ge "$deadline" ]; then
		over=yes
		echo "$name: took more than $limit s: the rest counts as failed" >&2
	fi
	return 1
}

# append FILE TEXT: without a program
append() {
	echo "$2" >>"$1"
}

# finish: the last line, and the status
finish() {
	echo "$name: $steps steps, $failed failed"
	[ "$failed" -eq 0 ]
}

mounted() {
	grep -q " $1 " /proc/mounts
}

# unmount DIR: whatever it takes
unmount() {
	mounted "$1" || return 0
	umount "$1" 2>/dev/null || umount -f "$1" 2>/dev/null || umount -l "$1"
}

# detach_loop FILE: from a loop device that a killed mount left; an error when the kernel still holds that
detach_loop() {
	held=
	for backing in /sys/block/loop*/loop/backing_file; do
		{ read -r path <"$backing"; } 2>/dev/null || continue
		[ "$path" = "$1" ] || continue
		device=${backing%/loop/backing_file}
		losetup -d "/dev/${device##*/}"
		[ -e "$backing" ] || continue
		echo "$0: the kernel still holds /dev/${device##*/}" >&2
		held=yes
	done
	[ -z "$held" ]
}

# exercise: all that is done with one file system, on $dir. The function attach mounts it, extra is its own part.
exercise() {
	step attach || return
	mix_write
	extra
	# What is read from here on comes from the disk or the server.
	if step umount "$dir"; then
		step attach || return
	fi
	mix_read
	step umount "$dir"
}

# ending FUNCTION: is done whatever ends the shell: its last line, a signal, a fork that failed
ending() {
	trap "$1" EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

# verb [VERB]: does it, by the workload's functions setup, run, undo (of run), attach_all, mix and cleanup
verb() {
	case ${1:-all} in
	all)
		ending cleanup
		cleanup
		setup && run
		;;
	run)
		ending undo
		run
		;;
	setup | mix | cleanup) "$1" ;;
	mount) setup && attach_all ;;
	*) die "usage: $0 [all|setup|run|mount|mix|cleanup]" ;;
	esac
	exit
}
