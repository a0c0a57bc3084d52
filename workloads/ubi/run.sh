#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
case $1 in
setup) modprobe mtdram total_size=8192 erase_size=128 && modprobe -a ubi ubifs mtdblock jffs2 && [ -c /dev/ubi_ctrl ] ;;
run)
	s=0
	ubiattach -m 0 -d 0 >/dev/null || s=1
	ubimkvol /dev/ubi0 -N a -s 2MiB -n 0 >/dev/null || s=1
	ubirsvol /dev/ubi0 -n 0 -s 3MiB || s=1
	ubiblock --create /dev/ubi0_0 && ubiblock --remove /dev/ubi0_0 || s=1
	mkdir -p /tmp/u
	mount -t ubifs ubi0:a /tmp/u && echo hello >/tmp/u/f && mkdir /tmp/u/d && mv /tmp/u/f /tmp/u/d && sync && umount /tmp/u || s=1
	umount /tmp/u 2>/dev/null
	ubirmvol /dev/ubi0 -n 0 || s=1
	ubidetach -m 0 >/dev/null || s=1
	exit $s
	;;
cleanup) umount /tmp/u; ubiblock --remove /dev/ubi0_0; ubidetach -m 0; : ;;
esac 2>/dev/null
