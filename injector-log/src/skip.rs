//! Functions that are in a stack but not to blame: a title names the first one that is not here.
//!
//! How names are written: see [`super::names`]. What allocates is in the table of [`super::allocator`].

use super::{
    allocator, frame,
    names::{has, stem},
};

/// When a function is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Always, even when nothing else is left: it only wrote the report, or leads into the kernel.
    Never,
    /// Unless nothing else is left.
    Mostly,
    /// As `Mostly`, in reports of what a CPU is stuck in; elsewhere these may well be to blame.
    Stuck,
}

struct Skip {
    when: When,
    names: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "for those who change the table"))]
    why: &'static str,
}

/// The first row that has the name counts.
const SKIPS: &[Skip] = &[
    Skip {
        when: When::Never,
        names: "\
            dump_stack* dump_backtrace* show_stack* show_regs* show_trace* walk_stackframe sched_show_task print_report \
            print_address_description* end_report kasan_* asan_* hwasan_* check_region_inline check_memory_region* \
            kmsan_* msan_* kcsan_* tsan_* kfence_* ubsan_* sanitizer_* val_to_string* handle_overflow",
        why: "prints the report, or is the check that the compiler put before an access",
    },
    Skip {
        when: When::Never,
        names: "\
            warn warn_printk warn_slowpath* warn_alloc report_bug* handle_bug handle_invalid_op fixup_bug \
            do_invalid_op invalid_op check_panic_on_warn panic nmi_panic die die_addr die_body die_kernel_fault \
            arm_notify_die oops_end oops_begin make_task_dead rewind_stack_and_make_dead page_fault_oops \
            kernelmode_fixup_or_oops* no_context bad_area* bad_page_fault do_user_addr_fault do_kern_addr_fault \
            do_kernel_fault do_page_fault do_translation_fault do_alignment_fault do_tag_check_fault do_bad_area \
            do_mem_abort do_sp_pc_abort do_trap* do_error_trap do_DataAbort do_PrefetchAbort do_undefinstr \
            handle_page_fault handle_fault dabt_svc pabt_svc und_svc brk_handler bug_handler do_debug_exception \
            call_break_hook call_el1_break_hook exc_* error_entry error_return general_protection page_fault \
            fortify_panic fortify_report stack_chk_fail stop_this_cpu get_taint",
        why: "the way from a trap to the report",
    },
    Skip {
        when: When::Never,
        names: "\
            schedule schedule_* preempt_schedule* context_switch switch_to* might_sleep might_resched \
            might_fault might_alloc cant_sleep cant_migrate check_preemption_disabled debug_smp_processor_id \
            this_cpu_preempt_check lockdep_* trace_hardirqs_* trace_softirqs_* lock_acquire* lock_release* lock_acquired lock_contended mark_lock* \
            mark_usage mark_held_locks validate_chain check_prev_add check_prevs_add check_noncircular \
            check_deadlock check_irq_usage check_wait_context print_circular_bug* print_deadlock_bug* \
            print_usage_bug* print_irq_inversion_bug* print_bad_irq_dependency* print_unlock_imbalance_bug* \
            print_lock_invalid_wait_context* print_freed_lock_bug* print_lock_nested_lock_not_held* hlock_class \
            debug_check_no_locks_freed debug_check_no_locks_held register_lock_class assign_lock_key \
            look_up_lock_class rcu_note_context_switch fs_reclaim_acquire fs_reclaim_release \
            debug_print_object debug_object_* debug_check_no_obj_freed spin_bug spin_dump rwlock_bug debug_spin_*",
        why: "a check of the scheduler, of lockdep, of debugobjects",
    },
    Skip {
        when: When::Never,
        names: "\
            slab_err slab_bug slab_pad_check object_err print_trailer check_object check_slab \
            check_bytes_and_report on_freelist alloc_debug_processing free_debug_processing \
            free_consistency_checks bad_page* free_page_is_bad* check_new_page* check_new_pages* \
            check_free_page* free_pages_check* free_tail_page_prepare print_bad_pte page_owner* set_page_owner \
            usercopy_abort usercopy_warn check_heap_object check_bogus_address",
        why: "the allocators' own checks",
    },
    Skip {
        when: When::Never,
        names: "\
            entry_* do_syscall_* do_fast_syscall_* do_int80* x64_sys_call ret_from_fork* asm_* sysvec_* \
            common_interrupt syscall_exit_* syscall_trace_* syscall_return_slowpath exit_to_user_mode_* \
            irqentry_* restore_regs_and_return_to_kernel arch_do_signal_or_restart get_signal do_group_exit \
            do_exit do_task_dead x86_indirect_thunk* x86_return_thunk srso_* retbleed_* kthread kthreadd \
            process_one_work process_scheduled_works do_idle default_idle* cpu_startup_entry start_secondary \
            common_startup_64 secondary_startup_64* worker_thread smpboot_thread_fn el0_* el0t_* el1_* el1h_* \
            do_el0_svc* invoke_syscall* ret_fast_syscall system_call* syscall_handler do_syscall handle_exception \
            call_on_irq_stack irq_svc ret_from_exception ret_from_kernel_thread",
        why: "where the kernel is entered and left; a task that dies there dies of something that came before",
    },
    Skip {
        when: When::Mostly,
        names: "\
            memcpy* memmove* memset* memcmp* memchr* memscan memcpy_and_pad strlen strnlen* strcmp strncmp \
            strcasecmp strncasecmp strcpy strncpy* strlcpy strscpy* sized_strscpy* strcat strncat strlcat \
            strchr* strrchr strnchr* strstr strnstr strsep strspn strcspn strpbrk strim skip_spaces copy_to_* \
            copy_from_* copy_user* copy_in* copy_mc* copy_page* copy_folio* raw_copy_* rep_movs* rep_stos* \
            iov_iter_* simple_copy_to_iter clear_page* clear_user* put_user* get_user* check_object_size vsnprintf \
            snprintf scnprintf vscnprintf sprintf vsprintf vsscanf sscanf string string_nocheck hex_string pointer \
            number format_decode printk* vprintk* dev_vprintk* dev_printk* dev_info dev_warn dev_err dev_notice \
            netdev_printk hex_dump_to_buffer print_hex_dump* bin2hex hex2bin kstrto* simple_strto* \
            read_word_at_a_time read_once_word_nocheck find_next_bit* find_first_bit* test_bit set_bit clear_bit \
            test_and_set_bit* test_and_clear_bit* atomic_* atomic64_* csum_partial* crc16* crc32* crc64* crc_* \
            xxh32* xxh64* phys_addr* phys_addr_symbol stack_trace_consume_entry arch_stack_walk* stack_trace_save*",
        why: "works on what its caller hands it",
    },
    Skip {
        when: When::Mostly,
        names: "\
            skb_panic skb_over_panic skb_under_panic skb_put* skb_push skb_pull* skb_release_data \
            skb_release_head_state skb_release_all kfree_skb* consume_skb mark_buffer_dirty brelse bforget \
            folio_unlock unlock_page folio_end_* end_page_writeback",
        why: "the same, for a buffer or page",
    },
    Skip {
        when: When::Mostly,
        names: "\
            assertfail btrfs_assertfail assfail asswarn",
        why: "reports what its caller asserts",
    },
    Skip {
        when: When::Mostly,
        names: "\
            list_add* list_del* list_move* list_splice* hlist_* llist_* klist_* plist_* rb_erase* rb_insert* \
            rb_next rb_prev rb_first* refcount_* ref_tracker_* kref_* lockref_* kobject_put kobject_get* put_device \
            get_device* sock_hold sock_put netdev_hold dev_hold* netdev_put dev_put* netdev_tracker_alloc \
            netdev_get_by_* dev_get_by_* dput fast_dput iput iput_final xas_* xa_* idr_* ida_* radix_tree_* \
            mas_* mtree_*",
        why: "a container or counter; wrong is who owns it",
    },
    Skip {
        when: When::Mostly,
        names: "\
            kobject_add* kobject_init_and_add kobject_del kobject_cleanup kobject_release device_release device_add device_register device_del \
            device_unregister device_create_file* device_remove_file* sysfs_remove_* sysfs_create_* sysfs_add_* \
            sysfs_warn_dup internal_create_group* kernfs_create_* kernfs_remove* debugfs_create_* \
            debugfs_start_creating start_creating proc_register proc_create* proc_mkdir* devres_release_* \
            unregister_netdevice* rollback_registered*",
        why: "registers a name, or removes it, for its caller",
    },
    Skip {
        when: When::Mostly,
        names: "\
            usb_submit_urb usb_hcd_submit_urb usb_kill_urb usb_unlink_urb usb_poison_urb usb_start_wait_urb \
            usb_control_msg* usb_internal_control_msg usb_bulk_msg usb_interrupt_msg del_timer* timer_delete* \
            try_to_del_timer* mod_timer* add_timer* timer_shutdown* lock_timer_base hrtimer_cancel \
            hrtimer_try_to_cancel hrtimer_start* sk_stop_timer* sk_reset_timer queue_work* insert_work queue_delayed_work* \
            mod_delayed_work*",
        why: "starts or stops something for its caller",
    },
    Skip {
        when: When::Mostly,
        names: "\
            mutex_* rt_mutex_* ww_mutex_* task_blocks_on_rt_mutex rtlock_* rt_spin_* rt_read_* rt_write_* down \
            down_read* down_write* down_interruptible down_killable down_trylock down_timeout down_common up \
            up_read* up_write* rwsem_* rwbase_* percpu_down_* percpu_up_* percpu_rwsem_* spin_* raw_spin_* \
            raw_read_* raw_write_* do_raw_* queued_spin_* queued_read_* queued_write_* native_queued_* \
            pv_queued_* kvm_wait osq_* bit_spin_* lock_sock* release_sock task_rq_lock console_lock \
            console_trylock down_trylock_console_sem folio_lock* lock_page* lock_buffer rcu_read_lock* rcu_read_unlock* local_bh_* \
            preempt_count_*",
        why: "a lock; wrong is who takes it",
    },
    Skip {
        when: When::Mostly,
        names: "\
            cond_resched* io_schedule* do_nanosleep hrtimer_nanosleep* msleep* usleep_* fsleep wait_for_* \
            do_wait_for_* wait_on_* wait_woken bit_wait* out_of_line_wait_* folio_wait_* folio_put_wait_* \
            wait_rcu_gp* prepare_to_wait* finish_wait wake_up wake_up_common* \
            wake_up_process wake_up_state wake_up_q wake_up_bit wake_up_locked* wake_up_sync* wake_up_klogd* \
            wake_up_page* wake_up_var wake_up_all* wake_up_interruptible* swake_up* complete complete_all \
            complete_with_flags try_to_wake_up default_wake_function autoremove_wake_function synchronize_* \
            rcu_barrier* flush_work* flush_workqueue* flush_delayed_work start_flush_work cancel_work* \
            cancel_delayed_work* drain_workqueue destroy_workqueue kthread_stop* kthread_park sched_clock* sched_ttwu_* \
            dequeue_task* enqueue_task* dequeue_entit* enqueue_entit* pick_next_task* rcu_sync_* \
            coredump_task_exit filemap_fdatawait* fdatawait_one_bdev",
        why: "waits for something else",
    },
    Skip {
        when: When::Mostly,
        names: "\
            kfree kfree_* kvfree* vfree* vunmap remove_vm_area find_vm_area free_large_kmalloc kmem_cache_free* \
            kmem_cache_destroy* kmem_cache_shutdown* kmem_cache_shrink* kmem_cache_release list_slab_objects \
            free_partial shutdown_cache cache_from_obj slab_free* do_slab_free build_detached_freelist \
            free_to_partial_list put_cpu_partial discard_slab free_slab free_page* free_pages* free_unref_* \
            free_frozen_* free_the_page free_pcppages_bulk free_one_page put_page* folio_put* folios_put* \
            release_pages destroy_large_folio free_percpu mempool_free* mempool_kfree mempool_destroy mempool_exit \
            kfree_call_rcu* qlist_free_all qlink_free quarantine_* rcu_do_batch rcu_core*",
        why: "frees for its caller",
    },
    Skip {
        when: When::Stuck,
        names: "\
            rcu_* print_cpu_stall* print_other_cpu_stall* check_cpu_stall* dump_cpu_task trigger_* \
            arch_trigger_* nmi_* default_do_nmi end_repeat_nmi perf_event_nmi_handler watchdog_* sched_tick \
            scheduler_tick task_tick* update_process_times tick_* hrtimer_* clockevents_* timekeeping_* ktime_* \
            kvm_clock_* pvclock_* read_tsc local_apic_* native_* handle_softirqs do_softirq* softirq_handle_* \
            irq_exit* invoke_softirq run_timer_* run_timers smp_call_function* csd_* on_each_cpu* delay* \
            const_udelay udelay ndelay rep_nop cpu_relax fentry console_* nbcon_* serial8250_* io_serial_* \
            mem_serial_* uart_* univ8250_* wait_for_lsr wait_for_xmitr debug_*",
        why: "the interrupt that found the CPU stuck, and what a busy loop calls over and over",
    },
];

/// Waits for the whole machine: a task that hangs in one of these waits for somebody else, whoever called it.
const SHARED_WAITS: &[(&str, &str)] = &[
    ("synchronize_rcu", "synchronize_rcu* synchronize_net synchronize_sched* wait_rcu_gp*"),
    ("rcu_barrier", "rcu_barrier*"),
];

/// The shared wait that a function is a part of.
fn shared_wait(function: &str) -> Option<&'static str> {
    let function = stem(function);
    SHARED_WAITS.iter().find(|(_, names)| has(names, function)).map(|(name, _)| *name)
}

/// When the function is passed over, if at all.
pub(crate) fn when(function: &str) -> Option<When> {
    let function = stem(function);
    if allocator::kind(function).is_some() {
        return Some(When::Mostly);
    }
    SKIPS.iter().find(|skip| has(skip.names, function)).map(|skip| skip.when)
}

/// Picks the culprit among functions that come from the innermost to the outermost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Culprit {
    search: Search,
    first: Option<String>,
    second_best: Option<String>,
    /// For [`Search::Recursion`]: the functions, and how often each was seen.
    seen: Vec<(String, usize)>,
}

/// What kind of culprit is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Search {
    /// Who made a mistake.
    #[default]
    Mistake,
    /// Who keeps a CPU busy.
    Stuck,
    /// Who waits.
    Waiting,
    /// Which function entered a recursion: the outermost one that is there more than once. The innermost frame is chance.
    Recursion,
}

/// Functions of a recursion that are counted.
const MOST_COUNTED: usize = 200;

impl Culprit {
    /// Nothing seen yet.
    pub(crate) fn new(search: Search) -> Self {
        Self { search, ..Self::default() }
    }

    /// The next function outwards.
    pub(crate) fn see(&mut self, function: &str) {
        let function = frame::name(function);
        let when = when(function);
        if self.search == Search::Recursion && when.is_none() {
            match self.seen.iter().position(|(seen, _)| seen == function) {
                Some(index) => {
                    // The one seen last is the outermost.
                    let (name, count) = self.seen.remove(index);
                    self.seen.push((name, count + 1));
                }
                None if self.seen.len() < MOST_COUNTED => self.seen.push((function.to_owned(), 1)),
                None => {}
            }
        }
        if self.first.is_some() {
            return;
        }
        if self.search == Search::Waiting
            && let Some(wait) = shared_wait(function)
        {
            self.first = Some(wait.to_owned());
            return;
        }
        let slot = match when {
            Some(When::Never) => return,
            Some(When::Stuck) if self.search != Search::Stuck => &mut self.first,
            Some(When::Mostly | When::Stuck) => &mut self.second_best,
            None => &mut self.first,
        };
        slot.get_or_insert_with(|| system_call(function));
    }

    /// Who it is; none where all functions are in the tables.
    pub(crate) fn sure(&self) -> Option<&str> {
        self.first.as_deref()
    }

    /// Who it is.
    pub(crate) fn name(&self) -> Option<&str> {
        let entered = self.seen.iter().rev().find(|(_, count)| *count > 1).map(|(name, _)| name.as_str());
        entered.or(self.first.as_deref()).or(self.second_best.as_deref())
    }
}

/// The name of a system call, the same on each architecture: `sys_mremap` for `__x64_sys_mremap` and `__se_sys_mremap`.
fn system_call(function: &str) -> String {
    const WRAPPERS: &[&str] =
        &["__x64_", "__se_", "__do_", "__arm64_", "__riscv_", "__s390x_", "__ia32_", "__powerpc_", "__loongarch_"];
    let call = WRAPPERS.iter().find_map(|start| function.strip_prefix(start)).filter(|name| name.starts_with("sys_"));
    call.unwrap_or(function).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn culprit(search: Search, functions: &[&str]) -> Option<String> {
        let mut culprit = Culprit::new(search);
        functions.iter().for_each(|function| culprit.see(function));
        culprit.name().map(str::to_owned)
    }

    #[test]
    fn the_first_that_can_be_wrong() {
        assert_eq!(culprit(Search::Mistake, &["dump_stack_lvl", "kfree", "nfs_put", "nfs_close"]).unwrap(), "nfs_put");
        assert_eq!(culprit(Search::Mistake, &["__kmalloc_cache_noprof", "foo.constprop.0"]).unwrap(), "foo");
    }

    #[test]
    fn a_primitive_where_nothing_else_is_left_and_an_entry_never() {
        assert_eq!(
            culprit(Search::Mistake, &["dump_stack_lvl", "kfree", "vfree", "ret_from_fork_asm"]).unwrap(),
            "kfree"
        );
        assert_eq!(culprit(Search::Mistake, &["dump_stack_lvl", "do_syscall_64"]), None);
    }

    #[test]
    fn interrupts_are_passed_over_only_where_a_cpu_is_stuck() {
        let functions = ["__hrtimer_run_queues", "foo"];
        assert_eq!(culprit(Search::Mistake, &functions).unwrap(), "__hrtimer_run_queues");
        assert_eq!(culprit(Search::Stuck, &functions).unwrap(), "foo");
    }

    #[test]
    fn a_shared_wait_has_one_name() {
        let functions = ["__schedule", "synchronize_rcu_expedited", "synchronize_net", "packet_release"];
        assert_eq!(culprit(Search::Waiting, &functions).unwrap(), "synchronize_rcu");
        assert_eq!(culprit(Search::Mistake, &functions).unwrap(), "packet_release");
    }

    #[test]
    fn a_recursion_is_named_after_the_function_that_entered_it() {
        let functions = ["leaf", "b", "a", "b", "a", "b", "a", "entry", "do_syscall_64"];
        assert_eq!(culprit(Search::Recursion, &functions).unwrap(), "a");
        assert_eq!(culprit(Search::Recursion, &functions[1..]).unwrap(), "a");
        assert_eq!(culprit(Search::Recursion, &["leaf", "b", "a"]).unwrap(), "leaf");
    }

    #[test]
    fn a_system_call_has_one_name() {
        for name in ["__x64_sys_bdflush", "__se_sys_bdflush", "__arm64_sys_bdflush", "sys_bdflush"] {
            assert_eq!(culprit(Search::Mistake, &[name]).unwrap(), "sys_bdflush");
        }
        assert_eq!(culprit(Search::Mistake, &["__do_softer"]).unwrap(), "__do_softer");
    }

    #[test]
    fn names() {
        assert_eq!(when("strlen"), Some(When::Mostly));
        assert_eq!(when("stripe_head"), None);
        assert_eq!(when("nfs4_do_open"), None);
        assert_eq!(when("warn_about"), None);
        assert_eq!(when("__warn"), Some(When::Never));
    }

    #[test]
    fn the_table_is_in_order() {
        assert!(SKIPS.iter().all(|skip| !skip.why.is_empty()));
        super::super::names::check(SKIPS.iter().map(|skip| skip.names));
    }
}
