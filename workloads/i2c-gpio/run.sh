#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
c=/sys/kernel/config/gpio-sim
case $1 in
setup)
	mountpoint -q /sys/kernel/config || mount -t configfs c /sys/kernel/config
	modprobe gpio-sim
	modprobe i2c-dev; modprobe i2c-stub chip_addr=0x48,0x50,0x68,0x20,0x2d,0x4c
	for m in lm75 lm90 lm63 adm1021 tmp102 tmp401 tmp421 ads7828 pcf8591 at24 ds1621 max6639 gpio-pca953x gpio-pcf857x w83781d lm85 lm87 lm80 jc42 emc1403 emc6w201 f75375s adt7475 lm95241 g762 max1668 rtc-ds1307 pmbus ltc2945 ina2xx max16065 nct7802 dme1737 smsc47m192 thmc50 adm9240 adm1026 adm1031 gl518sm gl520sm asc7621 amc6821; do modprobe -q $m; done
	;;
run)
	s=0
	if [ -d $c ]; then
		mkdir $c/g && mkdir $c/g/b && mkdir $c/g/b/line0 && mkdir $c/g/b/line0/hog || s=1
		echo 8 >$c/g/b/num_lines || s=1
		echo foo >$c/g/b/line0/name || s=1
		echo hg >$c/g/b/line0/hog/name || s=1
		echo 1 >$c/g/live || s=1
		echo 0 >$c/g/live || s=1
		rmdir $c/g/b/line0/hog $c/g/b/line0 $c/g/b $c/g || s=1
	fi
	a=
	for x in /sys/class/i2c-adapter/i2c-*; do grep -q stub $x/name && a=$x; done
	[ -n "$a" ] && for d in "lm75 0x48" "tmp102 0x48" "ds1621 0x48" "tmp401 0x4c" "tmp421 0x4c" "lm90 0x4c" "adm1021 0x4c" "max1668 0x4c" "lm63 0x4c" \
		"24c02 0x50" "24c512 0x50" "spd 0x50" "pcf8591 0x48" "ads7828 0x48" "w83781d 0x2d" "lm85 0x2d" "lm87 0x2d" "lm80 0x2d" "adt7475 0x2d" "f75375 0x2d" \
		"g762 0x2d" "pca9555 0x20" "pcf8574 0x20" "ds1307 0x68" "ina219 0x48" "nct7802 0x2d" "adm9240 0x2d" "adm1026 0x2d" "adm1031 0x2d" "gl518sm 0x2d" "amc6821 0x2d" "asc7621 0x2d" "thmc50 0x2d" "dme1737 0x2d"; do
		echo $d >$a/new_device || { s=1; continue; }
		echo ${d#* } >$a/delete_device || s=1
	done
	exit $s
	;;
cleanup)
	for a in /sys/class/i2c-adapter/i2c-*; do for x in 0x48 0x4c 0x50 0x2d 0x20 0x68; do echo $x >$a/delete_device; done; done 2>/dev/null
	[ -d $c/g ] && { echo 0 >$c/g/live; rmdir $c/g/b/line0/hog $c/g/b/line0 $c/g/b $c/g; }
	: ;;
esac
