#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
case $1 in
setup) modprobe -aq virtio_balloon virtio_rng virtio_net virtio_blk virtio_scsi ata_piix ahci ata_generic pata_legacy e1000 8139cp floppy i8042 pcspkr rtc_cmos psmouse serio_raw i2c_piix4 button evdev mousedev ac battery; : ;;
run)
	s=0
	for b in pci virtio serio platform acpi scsi ata pnp i2c; do
		for d in /sys/bus/$b/devices/*; do
			[ -e $d/driver ] || continue
			r=$(readlink $d/driver)
			r=${r##*/}
			n=${d##*/}
			case $r in
			virtio-pci) [ -d $d/virtio* ] && case $(readlink $d/virtio*/driver) in *virtio_console*) continue ;; esac ;;
			virtio_console | *console* | serial* | pcieport) continue ;;
			esac
			# Some can't be unbound.
			[ -e "/sys/bus/$b/drivers/$r/unbind" ] || continue
			echo $n >"/sys/bus/$b/drivers/$r/unbind" || s=1
			echo $n >"/sys/bus/$b/drivers/$r/bind" || echo $n >"/sys/bus/$b/drivers/$r/bind" || s=1
		done
	done
	exit $s
	;;
cleanup) : ;;
esac
