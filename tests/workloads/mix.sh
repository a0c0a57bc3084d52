#!/bin/sh
# mix.sh NAME DIR: file operations in DIR. Goes on after failures; says how many steps there were and how many failed.
# Small on purpose: fork and exec are what costs under emulation.

name=$1
dir=$2/mix.$$
steps=0
failed=0

step() {
	steps=$((steps + 1))
	"$@" >/dev/null 2>&1 || failed=$((failed + 1))
}

# Writes without a program of its own.
write() {
	steps=$((steps + 1))
	{ echo "$1" >>"$2"; } 2>/dev/null || failed=$((failed + 1))
}

step mkdir -p "$dir/a/b/c"
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
	write "some text for file $i" "$dir/a/file$i"
	write "and more of it" "$dir/a/file$i"
done
step dd if=/dev/zero of="$dir/big" bs=64k count=24 conv=fsync
step dd if=/dev/zero of="$dir/sparse" bs=4k count=4 seek=500 conv=fsync
step cat "$dir/big" "$dir/a/file1" "$dir/a/file2"
step mv "$dir/a/file1" "$dir/a/b/renamed"
step mv "$dir/a/file2" "$dir/a/file3"
step ln "$dir/a/file4" "$dir/a/link"
step ln -s ../file5 "$dir/a/b/symlink"
# A long target does not fit into the inode.
step ln -s "$(printf '%0200d' 0)" "$dir/a/b/longlink"
step chmod 600 "$dir/a/file6"
step chown 1:1 "$dir/a/file7"
step touch -d '2020-01-01 00:00' "$dir/a/file8"
step truncate -s 100000 "$dir/big"
step truncate -s 3000000 "$dir/big"
case $name in
nfs-v3) ;; # has no such operation
*) step fallocate -l 1048576 "$dir/allocated" ;;
esac
if command -v setfattr >/dev/null && [ "$name" != nfs-v3 ]; then
	step setfattr -n user.small -v value "$dir/a/file9"
	step setfattr -n user.large -v "$(printf '%02000d' 0)" "$dir/a/file10"
	step setfattr -x user.small "$dir/a/file9"
fi
step cp -r "$dir/a" "$dir/copy"
sync
# What is read from here on comes from the disk again.
{ echo 3 >/proc/sys/vm/drop_caches; } 2>/dev/null
step ls -lR "$dir"
step cat "$dir/big" "$dir/a/link"
step find "$dir" -type f
step df "$dir"
step rm "$dir/a/file16"
step rm -rf "$dir/copy"
step rm -rf "$dir"
# What a failure left behind.
[ -e "$dir" ] && rm -rf "$dir" 2>/dev/null
echo "$name: $steps steps, $failed failed"
exit 0
