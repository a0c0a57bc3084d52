#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
export DM_DISABLE_UDEV=1
case $1 in
setup)
	modprobe -a dm-mod brd dm-crypt dm-integrity dm-thin-pool dm-cache dm-cache-smq dm-clone dm-era dm-writecache dm-raid \
		dm-multipath dm-round-robin dm-service-time dm-snapshot raid1 raid456 dm-zoned aesni-intel ecb cbc xts essiv sha256 || :
	[ -b /dev/ram3 ]
	;;
run)
	s=0
	zero() { for i in 0 1 2 3; do dd if=/dev/zero of=/dev/ram$i bs=64k count=4 conv=fsync status=none; done; }
	t() {
		dmsetup create t --noudevsync --table "$1" || { s=1; return; }
		dd if=/dev/mapper/t of=/dev/null bs=4k count=2 status=none || s=1
		dd if=/dev/zero of=/dev/mapper/t bs=4k count=2 conv=fsync status=none || s=1
		dmsetup status t >/dev/null || s=1
		[ -n "$2" ] && { dmsetup message t 0 $2 || s=1; }
		dmsetup suspend t && dmsetup resume t || s=1
		dmsetup remove --noudevsync t || { usleep 100000; dmsetup remove --noudevsync t || s=1; }
	}
	t "0 8192 crypt aes-xts-plain64 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff 0 /dev/ram0 0"
	t "0 8192 crypt aes-cbc-essiv:sha256 00112233445566778899aabbccddeeff 0 /dev/ram0 0 1 no_read_workqueue"
	zero
	t "0 1024 integrity /dev/ram0 0 4 J 1 internal_hash:crc32c"
	zero
	t "0 8192 writecache s /dev/ram0 /dev/ram1 4096 0" flush
	zero
	t "0 8192 cache /dev/ram2 /dev/ram1 /dev/ram0 64 1 writeback smq 0"
	zero
	t "0 8192 clone /dev/ram2 /dev/ram1 /dev/ram0 8" "enable_hydration"
	zero
	t "0 8192 era /dev/ram2 /dev/ram1 128" checkpoint
	zero
	t "0 8192 raid raid1 3 0 region_size 1024 2 - /dev/ram0 - /dev/ram1"
	t "0 8192 raid raid5_ls 3 32 region_size 1024 3 - /dev/ram0 - /dev/ram1 - /dev/ram2"
	t "0 8192 multipath 0 0 2 1 round-robin 0 1 1 /dev/ram0 1 service-time 0 1 2 /dev/ram1 1 1"
	zero
	t "0 8192 snapshot /dev/ram0 /dev/ram1 P 8"
	zero
	dmsetup create pool --noudevsync --table "0 16384 thin-pool /dev/ram2 /dev/ram1 128 0" || s=1
	dmsetup message pool 0 "create_thin 0" || s=1
	t "0 8192 thin /dev/mapper/pool 0"
	dmsetup message pool 0 "create_snap 1 0" || s=1
	dmsetup message pool 0 "delete 1" || s=1
	dmsetup message pool 0 "delete 0" || s=1
	dmsetup remove --noudevsync pool || s=1
	exit $s
	;;
cleanup)
	dmsetup remove --noudevsync --force t 2>/dev/null
	dmsetup remove --noudevsync --force pool 2>/dev/null
	:
	;;
esac
