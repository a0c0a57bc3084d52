# Sourced by workloads of an NVMe target that this machine's own host connects to: $c is the target's configfs, $n its subsystem.
c=/sys/kernel/config/nvmet
n=nqn.2026-11.test:x

load() {
	modprobe -a nvmet nvme-loop brd nvme-fabrics || return
	mountpoint -q /sys/kernel/config || mount -t configfs c /sys/kernel/config
	[ -d $c ]
}

connect() {
	echo "transport=loop,nqn=$n,hostnqn=nqn.2026-11.test:h,hostid=11111111-2222-4333-8444-555555555555" >/dev/nvme-fabrics
}

# Deletes every controller.
disconnect() {
	for d in /sys/class/nvme/nvme*; do [ -e $d/delete_controller ] && echo 1 >$d/delete_controller; done
}
