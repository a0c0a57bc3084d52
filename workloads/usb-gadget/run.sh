#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
c=/sys/kernel/config/usb_gadget
case $1 in
setup)
	modprobe -a dummy_hcd libcomposite || exit
	modprobe -aq usb_f_acm usb_f_ecm usb_f_ecm_subset usb_f_eem usb_f_ncm usb_f_rndis usb_f_mass_storage usb_f_hid usb_f_midi usb_f_uac1 \
		usb_f_uac2 usb_f_uvc usb_f_printer usb_f_obex usb_f_serial usb_f_ss_lb usb_f_phonet usb_f_fs usb_f_midi2
	mountpoint -q /sys/kernel/config || mount -t configfs c /sys/kernel/config
	[ -d $c ]
	;;
run)
	s=0
	for f in acm.a ecm.a geth.a eem.a ncm.a rndis.a mass_storage.a hid.a midi.a uac1.a uac2.a printer.a obex.a gser.a SourceSink.a Loopback.a phonet.a uvc.a; do
		mkdir $c/g || s=1
		echo 0x1d6b >$c/g/idVendor
		mkdir $c/g/strings/0x409 || s=1
		echo x >$c/g/strings/0x409/product || s=1
		mkdir $c/g/configs/c.1 || s=1
		mkdir $c/g/configs/c.1/strings/0x409 || s=1
		mkdir $c/g/functions/$f || s=1
		case $f in
		hid.a) echo 8 >$c/g/functions/$f/report_length; echo -n abcdefgh >$c/g/functions/$f/report_desc || s=1 ;;
		mass_storage.a) mkdir $c/g/functions/$f/lun.1 || s=1; echo 1 >$c/g/functions/$f/lun.1/removable || s=1 ;;
		esac
		ln -s $c/g/functions/$f $c/g/configs/c.1/ || s=1
		if echo dummy_udc.0 >$c/g/UDC; then
			echo "" >$c/g/UDC || s=1
		else
			[ $f = uvc.a ] || s=1
		fi
		sh "$0" cleanup
	done
	exit $s
	;;
cleanup)
	[ -d $c/g ] || exit 0
	echo "" >$c/g/UDC 2>/dev/null
	rm -f $c/g/configs/c.1/*.a
	rmdir $c/g/functions/*/lun.1 2>/dev/null
	rmdir $c/g/functions/* $c/g/configs/c.1/strings/0x409 $c/g/configs/c.1 $c/g/strings/0x409 $c/g 2>/dev/null
	:
	;;
esac
