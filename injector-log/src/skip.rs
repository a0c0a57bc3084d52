//! Functions that are in a stack but are never the culprit: a title names the first one that is not here.
//!
//! Names are compared without leading underscores, without `_noprof` (6.10 and later put it behind allocators) and without
//! the compiler's suffixes; `*` at the end stands for anything.

use super::frame;

/// When a name is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
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

const SKIPS: &[Skip] = &[
    Skip {
        when: When::Never,
        names: "\
            dump_stack* show_stack* show_regs* sched_show_task print_report print_address_description* \
            end_report kasan_* asan_* hwasan_* check_region_inline check_memory_region* kmsan_* msan_* kcsan_* \
            tsan_* kfence_* ubsan_* sanitizer_* val_to_string* handle_overflow",
        why: "prints the report, or is the check that the compiler put before an access",
    },
    Skip {
        when: When::Never,
        names: "\
            warn warn_printk warn_slowpath* report_bug* handle_bug handle_invalid_op check_panic_on_warn panic \
            nmi_panic die die_addr die_body oops_end oops_begin make_task_dead rewind_stack_and_make_dead \
            page_fault_oops kernelmode_fixup_or_oops* no_context bad_area* do_user_addr_fault do_kern_addr_fault \
            do_trap* do_error_trap exc_* error_entry error_return fortify_panic fortify_report stack_chk_fail \
            stop_this_cpu",
        why: "the way from a trap to the report",
    },
    Skip {
        when: When::Never,
        names: "\
            schedule schedule_* preempt_schedule* context_switch switch_to* might_sleep might_resched \
            might_fault might_alloc cant_sleep cant_migrate check_preemption_disabled debug_smp_processor_id \
            this_cpu_preempt_check lockdep_* lock_acquire* lock_release* lock_acquired lock_contended mark_lock* \
            mark_usage mark_held_locks validate_chain check_prev_add check_prevs_add check_noncircular \
            check_deadlock check_irq_usage check_wait_context print_circular_bug* print_deadlock_bug* \
            print_usage_bug* print_irq_inversion_bug* print_bad_irq_dependency* print_unlock_imbalance_bug* \
            print_lock_invalid_wait_context* print_freed_lock_bug* debug_check_no_locks_freed \
            debug_check_no_locks_held register_lock_class assign_lock_key look_up_lock_class \
            rcu_note_context_switch fs_reclaim_acquire fs_reclaim_release debug_print_object debug_object_* \
            debug_check_no_obj_freed spin_bug spin_dump rwlock_bug debug_spin_*",
        why: "a check of the scheduler, of lockdep, of debugobjects",
    },
    Skip {
        when: When::Never,
        names: "\
            slab_err slab_bug slab_pad_check object_err print_trailer check_object check_slab \
            check_bytes_and_report on_freelist alloc_debug_processing free_debug_processing \
            free_consistency_checks bad_page* free_page_is_bad* check_new_page* check_new_pages* \
            check_free_page* free_pages_check* free_tail_page_prepare print_bad_pte",
        why: "the allocators' own checks",
    },
    Skip {
        when: When::Never,
        names: "\
            entry_* do_syscall_* do_fast_syscall_* do_int80* x64_sys_call ret_from_fork* asm_* sysvec_* \
            common_interrupt syscall_exit_* syscall_trace_* syscall_return_slowpath exit_to_user_mode_* \
            irqentry_* restore_regs_and_return_to_kernel arch_do_signal_or_restart get_signal do_group_exit \
            do_exit do_task_dead x86_indirect_thunk* x86_return_thunk srso_* retbleed_* kthread kthreadd \
            process_one_work do_idle default_idle* cpu_startup_entry start_secondary common_startup_64 \
            secondary_startup_64* worker_thread smpboot_thread_fn",
        why: "where the kernel is entered and left; a task that dies there dies of something that came before",
    },
    Skip {
        when: When::Mostly,
        names: "\
            memcpy* memmove* memset* memcmp* memchr* memscan memcpy_and_pad strlen strnlen* strcmp strncmp \
            strcasecmp strncasecmp strcpy strncpy* strlcpy strscpy* sized_strscpy* strcat strncat strlcat \
            strchr* strrchr strnchr* strstr strnstr strsep strspn strcspn strpbrk strim skip_spaces copy_to_* \
            copy_from_* copy_user* copy_in* copy_mc* copy_page* raw_copy_* rep_movs* rep_stos* clear_page* \
            clear_user* put_user* get_user* check_object_size vsnprintf snprintf scnprintf vscnprintf sprintf \
            vsprintf string string_nocheck pointer number printk* vprintk* dev_vprintk* dev_printk* \
            read_word_at_a_time find_next_bit* find_first_bit* csum_partial* crc32*",
        why: "works on what its caller hands it",
    },
    Skip {
        when: When::Mostly,
        names: "\
            list_add* list_del* list_move* list_splice* hlist_* llist_* klist_* plist_* rb_erase* rb_insert* \
            rb_next rb_prev rb_first* refcount_* kref_* lockref_* kobject_put kobject_get* put_device get_device \
            xas_* xa_* idr_* ida_* radix_tree_* mas_* mtree_*",
        why: "a container or counter; wrong is who owns it",
    },
    Skip {
        when: When::Mostly,
        names: "\
            mutex_* rt_mutex_* ww_mutex_* down down_read* down_write* down_interruptible down_killable \
            down_trylock down_timeout down_common up up_read* up_write* rwsem_* rwbase_* percpu_down_* \
            percpu_up_* percpu_rwsem_* spin_* raw_spin_* raw_read_* raw_write_* do_raw_* queued_spin_* \
            queued_read_* queued_write_* native_queued_* pv_queued_* kvm_wait osq_* bit_spin_* lock_sock* \
            release_sock folio_lock* lock_page* lock_buffer rcu_read_lock* rcu_read_unlock* local_bh_* \
            preempt_count_*",
        why: "a lock; wrong is who takes it",
    },
    Skip {
        when: When::Mostly,
        names: "\
            cond_resched* io_schedule* do_nanosleep hrtimer_nanosleep* msleep* usleep_* fsleep wait_for_* \
            do_wait_for_* wait_on_* wait_woken bit_wait* out_of_line_wait_* folio_wait_* folio_put_wait_* \
            wait_rcu_gp* prepare_to_wait* finish_wait wake_up* swake_up* complete complete_all \
            complete_with_flags try_to_wake_up default_wake_function autoremove_wake_function synchronize_* \
            rcu_barrier* flush_work* flush_workqueue* flush_delayed_work start_flush_work cancel_work* \
            cancel_delayed_work* drain_workqueue destroy_workqueue kthread_stop* kthread_park sched_* \
            dequeue_task* enqueue_task* dequeue_entit* enqueue_entit* pick_next_task* rcu_sync_* \
            coredump_task_exit",
        why: "waits for something else",
    },
    Skip {
        when: When::Mostly,
        names: "\
            kmalloc* kzalloc* kcalloc* krealloc* do_kmalloc* kvmalloc* kvzalloc* kvcalloc* kvrealloc* \
            kmem_cache_alloc* do_kmem_cache_alloc* kmem_cache_create* slab_alloc* slab_pre_alloc_hook* \
            slab_post_alloc_hook* slab_alloc_node new_slab* allocate_slab get_partial* get_from_partial* \
            get_any_partial* alloc_single_from* alloc_slab_page alloc_slab_obj_exts should_failslab should_fail* \
            vmalloc* vzalloc* get_vm_area* alloc_vmap_area alloc_page* alloc_pages* alloc_frozen_pages* \
            alloc_contig* folio_alloc* get_page_from_freelist prep_new_page post_alloc_hook rmqueue* \
            get_free_page* get_zeroed_page* alloc_percpu* pcpu_alloc* pcpu_create_chunk pcpu_populate* \
            mempool_alloc* mempool_kmalloc mempool_create* mempool_init* kstrdup* kstrndup kmemdup* kvmemdup* \
            kasprintf kvasprintf* memdup_* vmemdup_* strndup_user dma_pool_alloc devm_* devres_* alloc_skb* \
            napi_alloc_skb* netdev_alloc_skb* build_skb* bio_alloc* bvec_alloc kmemleak_* create_object \
            delete_object* mem_pool_alloc stack_depot_* obj_cgroup_* memcg_* mod_objcg_* list_lru_add*",
        why: "allocates for its caller",
    },
    Skip {
        when: When::Mostly,
        names: "\
            kfree kfree_* kvfree* vfree* vunmap remove_vm_area find_vm_area free_large_kmalloc kmem_cache_free* \
            kmem_cache_destroy* kmem_cache_shutdown* kmem_cache_shrink* kmem_cache_release list_slab_objects \
            free_partial shutdown_cache cache_from_obj slab_free* do_slab_free build_detached_freelist \
            free_to_partial_list put_cpu_partial discard_slab free_slab free_page* free_pages* free_unref_* \
            free_frozen_* free_the_page free_pcppages_bulk free_one_page put_page* folio_put* \
            destroy_large_folio free_percpu mempool_free* mempool_kfree mempool_destroy mempool_exit \
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

/// When the function is passed over, if at all.
pub(super) fn when(function: &str) -> Option<When> {
    let function = frame::name(function).trim_start_matches('_');
    let function = function.strip_suffix("_noprof").unwrap_or(function);
    SKIPS.iter().find(|skip| skip.names.split(' ').any(|name| matches(name, function))).map(|skip| skip.when)
}

fn matches(name: &str, function: &str) -> bool {
    match name.strip_suffix('*') {
        Some(start) => function.starts_with(start),
        None => function == name,
    }
}

/// Picks the culprit among functions that come from the innermost to the outermost.
#[derive(Clone, Debug, Default)]
pub(super) struct Culprit {
    /// Also pass over what a stuck CPU runs.
    stuck: bool,
    first: Option<String>,
    second_best: Option<String>,
}

impl Culprit {
    /// Nothing seen yet. `stuck`: the report is about a CPU that is stuck.
    pub(super) fn new(stuck: bool) -> Self {
        Self { stuck, ..Self::default() }
    }

    /// The next function outwards.
    pub(super) fn see(&mut self, function: &str) {
        if self.first.is_some() {
            return;
        }
        let slot = match when(function) {
            Some(When::Never) => return,
            Some(When::Stuck) if !self.stuck => &mut self.first,
            Some(When::Mostly | When::Stuck) => &mut self.second_best,
            None => &mut self.first,
        };
        slot.get_or_insert_with(|| frame::name(function).to_owned());
    }

    /// Who it is.
    pub(super) fn name(&self) -> Option<&str> {
        self.first.as_deref().or(self.second_best.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn culprit(stuck: bool, functions: &[&str]) -> Option<String> {
        let mut culprit = Culprit::new(stuck);
        functions.iter().for_each(|function| culprit.see(function));
        culprit.name().map(str::to_owned)
    }

    #[test]
    fn the_first_that_can_be_wrong() {
        assert_eq!(culprit(false, &["dump_stack_lvl", "kfree", "nfs_put", "nfs_close"]).unwrap(), "nfs_put");
        assert_eq!(culprit(false, &["__kmalloc_cache_noprof", "foo.constprop.0"]).unwrap(), "foo");
    }

    #[test]
    fn a_primitive_where_nothing_else_is_left_and_an_entry_never() {
        assert_eq!(culprit(false, &["dump_stack_lvl", "kfree", "vfree", "ret_from_fork_asm"]).unwrap(), "kfree");
        assert_eq!(culprit(false, &["dump_stack_lvl", "do_syscall_64"]), None);
    }

    #[test]
    fn interrupts_are_passed_over_only_where_a_cpu_is_stuck() {
        let functions = ["__hrtimer_run_queues", "foo"];
        assert_eq!(culprit(false, &functions).unwrap(), "__hrtimer_run_queues");
        assert_eq!(culprit(true, &functions).unwrap(), "foo");
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
        let mut seen = std::collections::HashSet::new();
        for skip in SKIPS {
            assert!(!skip.why.is_empty());
            for name in skip.names.split(' ') {
                assert!(!name.is_empty() && seen.insert(name), "{name} is there twice");
                assert!(!name.starts_with('_') && !name.ends_with("_noprof"), "{name} never matches");
            }
        }
    }
}
