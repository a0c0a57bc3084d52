# Sourced by the workloads of one disk: a file system in a sparse file, on a loop device. They set name and size,
# and define make (mkfs, of $image), extra and verify (fsck, which changes nothing).

. "$here/mix.sh"

dir=$top/$name
image=$top/$name.img

attach() {
	mount -t "$name" -o loop "$image" "$dir"
}

create() {
	step mkdir -p "$dir" && step truncate -s "$size" "$image" && step make
}

# quietly COMMAND...: what it says is shown when it fails
quietly() {
	said=$("$@" 2>&1) && return
	echo "$said" >&2
	return 1
}

setup() {
	:
}

run() {
	# Of a run that was killed.
	[ -e "$dir" ] && cleanup
	create && exercise && step verify
	finish
}

undo() {
	cleanup
}

attach_all() {
	create && step attach
}

mix() {
	mix_write
	extra
	{ echo 3 >/proc/sys/vm/drop_caches; } 2>/dev/null
	mix_read
	finish
}

cleanup() {
	unmount "$dir"
	[ -d "$dir" ] && rmdir "$dir"
	detach_loop "$image"
	status=$?
	rm -f "$image"
	[ -d "$top" ] && rmdir "$top" 2>/dev/null
	return $status
}
