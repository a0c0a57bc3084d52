#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
d=/tmp/m
case $1 in
setup)
	modprobe -aq overlay squashfs erofs exfat udf vfat isofs binfmt_misc fuse loop nls_utf8 nls_cp437 nls_ascii nls_iso8859-1
	mkdir -p $d /tmp/o/l /tmp/o/u /tmp/o/w /tmp/src/x
	cp /usr/bin/busybox /tmp/src/x/ && echo a >/tmp/src/a
	mksquashfs /tmp/src /tmp/sq.img -noappend -quiet >/dev/null
	mkfs.erofs -zlz4 /tmp/er.img /tmp/src >/dev/null 2>&1
	for f in ex ud va; do truncate -s 8M /tmp/$f.img; done
	mkfs.exfat /tmp/ex.img >/dev/null; mkudffs --utf8 /tmp/ud.img >/dev/null; mkfs.vfat /tmp/va.img >/dev/null
	echo hi >/tmp/o/l/f
	;;
run)
	s=0
	m() { mount "$@" $d || { s=1; return; }; ls -lR $d >/dev/null; cat $d/a >/dev/null 2>&1; umount $d || s=1; }
	w() { mount "$@" $d || { s=1; return; }; mkdir $d/q && echo hello >$d/q/f && mv $d/q/f $d/g && ln -s x $d/sl; rm -rf $d/q $d/g $d/sl; sync -f $d; umount $d || s=1; }
	w -t overlay -o lowerdir=/tmp/o/l,upperdir=/tmp/o/u,workdir=/tmp/o/w o
	m -t squashfs -o loop /tmp/sq.img
	m -t erofs -o loop /tmp/er.img
	w -t exfat -o loop /tmp/ex.img
	w -t udf -o loop /tmp/ud.img
	w -t vfat -o loop /tmp/va.img
	w -t tmpfs -o size=1M t
	w -t ramfs t
	for t in binfmt_misc mqueue debugfs tracefs securityfs pstore bpf cgroup2 configfs; do mount -t $t t $d || { s=1; continue; }; umount $d || s=1; done
	exit $s
	;;
cleanup) umount $d 2>/dev/null; for l in /dev/loop[0-7]; do losetup -d $l 2>/dev/null; done; : ;;
esac
