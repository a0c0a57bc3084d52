#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
. "${0%/*}/../lib/real.sh"
real ip

case $1 in
setup) modprobe mac80211; modprobe -a cfg80211 mac80211_hwsim; modprobe -r mac80211_hwsim; : ;;
run)
	s=0
	modprobe mac80211_hwsim radios=2 || s=1
	ip link set wlan0 up || s=1
	ip link set wlan0 down || s=1
	modprobe -r mac80211_hwsim || s=1
	exit $s
	;;
cleanup) modprobe -r mac80211_hwsim; : ;;
esac
