#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
. "${0%/*}/../lib/real.sh"
real ip

case $1 in
setup)
	for m in nf_tables nft_ct nft_nat nft_masq nft_redir nft_limit nft_quota nft_log nft_reject_inet nft_hash nft_numgen nft_fib_inet \
		nft_socket nft_tproxy nft_xfrm nft_osf nft_queue nft_connlimit nft_synproxy nft_flow_offload nf_flow_table_inet nft_tunnel \
		nft_dup_ipv4 nft_chain_nat nf_log_syslog nfnetlink_log dummy nf_conntrack_ftp; do modprobe -q $m; done
	ip link add d0 type dummy; ip link set d0 up
	cat >/tmp/a.nft <<'N'
table inet t {
	set s4 { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.1.1 } }
	set st { type ipv4_addr; flags timeout,dynamic; timeout 1h; size 128; }
	set sc { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.1-10.0.0.9 . 80-90 } }
	set sh { type inet_service; elements = { 22, 80, 443 } }
	map m { type ipv4_addr : verdict; elements = { 10.1.1.1 : drop } }
	counter c { }
	quota q { over 10 mbytes }
	limit l { rate 10/second }
	ct helper ftp { type "ftp" protocol tcp; }
	flowtable f { hook ingress priority 0; devices = { d0 }; }
	chain i {
		type filter hook input priority 0; policy accept;
		ct state established accept
		ip saddr @s4 counter name c
		ip saddr . tcp dport @sc drop
		tcp dport @sh limit rate 5/second accept
		ip saddr vmap @m
		tcp dport 21 ct helper set "ftp"
		add @st { ip saddr limit rate 3/minute }
		meta mark set jhash ip saddr mod 4
		meta mark set numgen inc mod 4
		fib daddr type local accept
		tcp dport 99 ct count over 5 drop
		log prefix "x" group 1
		quota name "q" drop
		tcp flags syn tcp option maxseg size set 1400
		reject
	}
	chain fw { type filter hook forward priority 0; ip protocol tcp flow add @f; jump j; }
	chain j { ip daddr 10.9.9.9 return; }
	chain po { type nat hook postrouting priority 100; masquerade; }
	chain pr { type nat hook prerouting priority -100; tcp dport 80 dnat ip to 10.0.0.5:8080; tcp dport 81 redirect to :82; }
}
N
	;;
run)
	s=0
	nft -f /tmp/a.nft || s=1
	nft list ruleset >/dev/null || s=1
	nft add element inet t s4 '{ 172.16.0.0/12 }' || s=1
	nft delete element inet t s4 '{ 172.16.0.0/12 }' || s=1
	nft add rule inet t i position 0 tcp dport 5 drop 2>/dev/null || nft insert rule inet t i tcp dport 5 drop || s=1
	nft reset counters >/dev/null || s=1
	nft flush chain inet t i || s=1
	nft flush ruleset || s=1
	exit $s
	;;
cleanup) nft flush ruleset; : ;;
esac
