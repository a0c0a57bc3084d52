#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
. "${0%/*}/../lib/real.sh"
real ip

c=/sys/kernel/config/netconsole
case $1 in
setup)
	mountpoint -q /sys/kernel/config || mount -t configfs c /sys/kernel/config
	modprobe -aq pktgen netconsole ip_tables iptable_filter iptable_nat iptable_mangle iptable_raw ip6table_filter arptable_filter ebtable_filter ebtables arp_tables \
		xt_conntrack xt_limit xt_hashlimit xt_recent xt_comment xt_multiport xt_string xt_LOG xt_MASQUERADE xt_REDIRECT xt_TCPMSS xt_mark xt_CT xt_connmark \
		xt_set xt_statistic xt_TEE xt_RATEEST xt_rateest xt_IDLETIMER xt_nfacct xt_quota xt_u32 xt_bpf ip_vs ip_vs_rr ip_vs_wlc ip_vs_sh ip_vs_lblc ip_vs_ftp dummy \
		ip_set ip_set_hash_ip ip_set_hash_net ip_set_bitmap_ip ip_set_list_set ebt_ip ebt_limit ebt_log ebt_mark ebt_among
	ip link add d0 type dummy; ip addr add 10.0.0.1/24 dev d0; ip link set d0 up
	ip link set lo up
	mkdir -p /run
	;;
run)
	s=0
	p=/proc/net/pktgen
	if [ -d $p ]; then
		echo "add_device d0" >$p/kpktgend_0 || s=1
		echo "count 2" >$p/d0 && echo "clone_skb 0" >$p/d0 && echo "flows 4" >$p/d0 && echo "dst 10.0.0.2" >$p/d0 || s=1
		echo start >$p/pgctrl || s=1
		echo "rem_device_all" >$p/kpktgend_0 || s=1
	fi
	if [ -d $c ]; then
		mkdir $c/t || s=1
		echo lo >$c/t/dev_name && echo 127.0.0.1 >$c/t/remote_ip && echo 127.0.0.1 >$c/t/local_ip && echo 1 >$c/t/enabled || s=1
		mkdir $c/t/userdata/x && echo v >$c/t/userdata/x/value || s=1
		echo 0 >$c/t/enabled || s=1
		rmdir $c/t/userdata/x $c/t || s=1
	fi
	i="xtables-legacy-multi iptables"
	$i -A INPUT -p tcp -m conntrack --ctstate NEW -m limit --limit 5/s -j ACCEPT || s=1
	$i -A INPUT -p tcp -m hashlimit --hashlimit-above 5/s --hashlimit-mode srcip --hashlimit-name h -j DROP || s=1
	$i -A INPUT -m recent --name r --set || s=1
	$i -A INPUT -m string --string abc --algo kmp -j DROP || s=1
	$i -A INPUT -m statistic --mode nth --every 5 -m quota --quota 10 -j LOG || s=1
	$i -N U && $i -A U -m multiport -p tcp --dports 1,2 -m comment --comment x -j RETURN && $i -A INPUT -j U || s=1
	$i -t nat -A POSTROUTING -j MASQUERADE || s=1
	$i -t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 81 || s=1
	$i -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu || s=1
	$i -t mangle -A PREROUTING -j CONNMARK --set-mark 1 || s=1
	$i -t raw -A PREROUTING -p tcp --dport 21 -j CT --zone 3 || s=1
	$i -t mangle -A POSTROUTING -j TEE --gateway 10.0.0.9 || s=1
	$i -A OUTPUT -j IDLETIMER --timeout 100 --label x || s=1
	for t in filter nat mangle raw; do $i -t $t -F || s=1; done
	$i -X || s=1
	xtables-legacy-multi ip6tables -A INPUT -p tcp -j DROP && xtables-legacy-multi ip6tables -F || s=1
	arptables-legacy -A INPUT -s 10.0.0.5 -j DROP && arptables-legacy -F || s=1
	ebtables-legacy -A INPUT -p IPv4 --ip-source 10.0.0.5 --limit 5/s -j DROP && ebtables-legacy -F || s=1
	ipvsadm -A -t 10.0.0.1:80 -s rr && ipvsadm -a -t 10.0.0.1:80 -r 10.0.0.5:80 -m && ipvsadm -e -t 10.0.0.1:80 -r 10.0.0.5:80 -m -w 5 && ipvsadm -E -t 10.0.0.1:80 -s wlc && ipvsadm -D -t 10.0.0.1:80 || s=1
	ipvsadm -A -f 5 -s sh && ipvsadm -C || s=1
	ipvsadm --start-daemon master --mcast-interface d0 && ipvsadm --stop-daemon master || s=1
	for k in "hash:ip timeout 100" "hash:net counters" "bitmap:ip range 10.0.0.0/24" "list:set"; do
		ipset create x $k || s=1
		[ "$k" = list:set ] || ipset add x 10.0.0.7 || s=1
		ipset destroy x || s=1
	done
	exit $s
	;;
cleanup)
	for t in filter nat mangle raw; do xtables-legacy-multi iptables -t $t -F; done
	xtables-legacy-multi iptables -X; ipvsadm -C; ipvsadm --stop-daemon master; ipset destroy; arptables-legacy -F; ebtables-legacy -F
	echo "rem_device_all" >/proc/net/pktgen/kpktgend_0
	[ -d $c/t ] && { echo 0 >$c/t/enabled; rmdir $c/t/userdata/x; rmdir $c/t; }
	:
	;;
esac 2>/dev/null
