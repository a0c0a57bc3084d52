# Sourced by the workloads. POSIX sh, for busybox.
#
# Under injection most steps may fail: a workload goes on, counts, and never hangs. Failures of setup are failures.

top=${INJECTOR_WORKLOAD_DIR:-/tmp/injector-workload}
here=$(dirname "$0")
# The mix takes a second or two under emulation; whoever takes that long waits for a reply that was never sent.
limit=${INJECTOR_WORKLOAD_LIMIT:-90}

die() {
	echo "$0: $*" >&2
	exit 1
}

# make_disk NAME SIZE MKFS...: a file system in a sparse file, mounted on $top/NAME
make_disk() {
	name=$1 size=$2
	shift 2
	mkdir -p "$top/$name" || die "can't make $top/$name"
	truncate -s "$size" "$top/$name.img" || die "can't make $top/$name.img"
	"$@" "$top/$name.img" >"$top/$name.log" 2>&1 || die "$*: $(cat "$top/$name.log")"
	mount -o loop "$top/$name.img" "$top/$name" || die "can't mount $top/$name.img"
}

mounted() {
	grep -q " $1 " /proc/mounts
}

# unmount DIR: whatever it takes
unmount() {
	mounted "$1" || return 0
	timeout 20 umount "$1" 2>/dev/null || umount -f "$1" 2>/dev/null || umount -l "$1"
}

remove_disk() {
	unmount "$top/$1"
	rmdir "$top/$1" 2>/dev/null
	rm -f "$top/$1.img" "$top/$1.log"
}

# run_mix NAME DIR: the file operations; its last line says how many failed
run_mix() {
	timeout -s KILL "$limit" sh "$here/mix.sh" "$1" "$2" || echo "$1: ended early, status $?"
}
