# Sourced by the workloads: file operations in $dir, in two parts. Small on purpose: fork and exec are what costs under
# emulation, so where the shell can do it, no program is started.

# A target that does not fit into an inode, and names that make a directory outgrow its first block.
long=0123456789012345678901234567890123456789012345678
long=$long.$long.$long.$long

# Busybox's cp has no --reflink, and its shell prefers its own: the guest has the real one here.
real_cp=cp
[ -x /usr/sbin/cp ] && real_cp=/usr/sbin/cp

lock() {
	flock -x 9
} 9>>"$mix/a/file4"

# reflink: for file systems that have it
reflink() {
	step $real_cp --reflink=always "$mix/big" "$mix/clone"
	step append "$mix/clone" "now they differ"
}

mix_write() {
	mix=$dir/mix
	step mkdir -p "$mix/a/b/c" "$mix/many"
	for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
		step append "$mix/a/file$i" "some text for file $i"
		step append "$mix/a/file$i" "and more of it"
	done
	for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24; do
		step append "$mix/many/$i.$long" ""
	done
	step dd if=/dev/zero of="$mix/big" bs=64k count=24 conv=fsync status=none
	step dd if=/dev/zero of="$mix/sparse" bs=4k count=4 seek=500 conv=fsync status=none
	step cat "$mix/big" "$mix/a/file1" "$mix/a/file2"
	step sync "$mix/a/file3"
	step sync -d "$mix/a/file3"
	step mv "$mix/a/file1" "$mix/a/b/renamed"
	step mv "$mix/a/file2" "$mix/a/file3"
	step mv "$mix/a/b/c" "$mix/moved"
	step ln "$mix/a/file4" "$mix/a/link"
	step ln -s ../file5 "$mix/a/b/symlink"
	step ln -s "$long" "$mix/a/b/longlink"
	step mkfifo "$mix/a/fifo"
	step chmod 600 "$mix/a/file6"
	step chown 1:1 "$mix/a/file7"
	step touch -d '2020-01-01 00:00' "$mix/a/file8"
	[ -n "$no_locks" ] || step lock
	step truncate -s 100000 "$mix/big"
	step truncate -s 3000000 "$mix/big"
	# NFS 3 has neither.
	if [ "$name" != nfs3 ]; then
		step fallocate -l 1048576 "$mix/allocated"
		step setfattr -n user.small -v value "$mix/a/file9"
		step setfattr -n user.large -v "$long.$long.$long.$long.$long.$long" "$mix/a/file10"
		step setfattr -x user.small "$mix/a/file9"
	fi
	step cp -r "$mix/many" "$mix/copy"
	step cp "$mix/a/file10" "$mix/copy"
	step sync -f "$mix"
}

mix_read() {
	mix=$dir/mix
	step ls -lR "$mix"
	step cat "$mix/big" "$mix/a/link" "$mix/a/b/symlink"
	step cmp "$mix/a/file10" "$mix/copy/file10"
	[ "$name" = nfs3 ] || step getfattr --absolute-names -d "$mix/a/file10"
	step find "$mix" -type f
	step df "$mix"
	step rm "$mix/a/file16"
	step rm -r "$mix/copy"
	step rm -r "$mix"
}
