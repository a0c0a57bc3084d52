#!/bin/sh
# modules.sh setup MODULE... | run: loads and unloads each module, one after the other.
# setup tries them once, without failures, and keeps those that this kernel loads and unloads; run does the same each time.
list=/tmp/injector-modules

case $1 in
setup)
	shift
	[ -e $list ] && exit
	for module in "$@"; do
		# Those that were loaded before stay.
		[ -d "/sys/module/$(echo "$module" | tr - _)" ] && continue
		modprobe -q "$module" && modprobe -qr "$module" && echo "$module"
	done >$list
	[ -s $list ]
	;;
run)
	status=0
	while read -r module; do
		if modprobe -q "$module"; then
			modprobe -qr "$module" || status=1
		else
			status=1
		fi
	done <$list
	exit $status
	;;
*)
	echo "usage: $0 setup MODULE...|run" >&2
	exit 2
	;;
esac
