//! The hooks that have a name: one table, from which both sides, the checks and the help are made. A new hook is a new row.
//!
//! The kernel side makes its programs of the rows, the user side its `Hook`. Both number the hooks by their place in the table.
//! Numbers are in the signatures of sites, and so in journals: a new row goes to the end.

/// What is known of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name on the command line and in outputs.
    pub name: &'static str,
    /// Its name in the eBPF object.
    pub program: &'static str,
    /// What it sees, for the help.
    pub help: &'static str,
    /// The kernel function.
    pub function: &'static str,
    /// The function's prototype as BTF has it: without the parameters' names and without macros.
    pub prototype: &'static str,
    /// What other kernels have instead of the function. A kernel lists one of them for error injection.
    pub alternatives: &'static [Function],
    /// Which of the function's arguments are what.
    pub arguments: Arguments,
    /// The function's type in the kernel's error injection list: what it may return instead of being called.
    pub error_type: &'static str,
    /// The kernel option that it needs.
    pub option: Option<Needs>,
    /// What to do where the kernel has the function and does not list it; none: what [`Needs`] says.
    pub unlisted: Option<&'static str>,
}

/// A function that does what a hook's function does in other kernels. Its arguments and its error type are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// The kernel function.
    pub name: &'static str,
    /// As [`Row::prototype`].
    pub prototype: &'static str,
}

/// Which of a hooked function's arguments are what, from 0; none where it has no such argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// The flags that are asked for.
    pub gfp: Option<usize>,
    /// The slab cache.
    pub cache: Option<usize>,
    /// The order.
    pub order: Option<usize>,
    /// The size in bytes.
    pub size: Option<usize>,
}

/// The kernel option that a hook needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The option.
    pub option: &'static str,
    /// The first kernel that needs it.
    pub since: (u32, u32),
    /// Whether the function is in the error injection list because of it, too.
    pub lists: bool,
}

impl Arguments {
    /// None of them.
    pub const NONE: Self = Self { gfp: None, cache: None, order: None, size: None };

    /// Where the tracepoints of the module injector_hooks have them (module/trace.h): all of them have the same arguments.
    #[must_use]
    pub const fn at_tracepoint(self) -> Self {
        const GFP: usize = 2;
        const FACT: usize = 3;
        const fn at(argument: Option<usize>, place: usize) -> Option<usize> {
            match argument {
                Some(_) => Some(place),
                None => None,
            }
        }
        let Self { gfp, cache, order, size } = self;
        Self { gfp: at(gfp, GFP), cache: at(cache, FACT), order: at(order, FACT), size: at(size, FACT) }
    }
}

/// [`Row::unlisted`] of functions that no kernel lists.
const BY_MODULE: &str = "install the module injector_hooks: injector module install";

/// Version of what both sides know of the module injector_hooks: its tracepoints, parameters and device. It is the module's
/// version, and INJECTOR_HOOKS_PROTOCOL of module/injector_hooks.h.
pub const MODULE_PROTOCOL: u32 = 1;

/// Hands the table to a macro, which makes something of each row: its name as an enum's variant, its name in the eBPF object, and
/// the fields of a [`Row`].
#[macro_export]
macro_rules! named_hooks {
    ($make:ident) => {
        $make! {
            /// Every allocation from a slab cache: kmalloc() up to KMALLOC_MAX_CACHE_SIZE, kmem_cache_alloc().
            // v6.1 mm/slab_common.c, v6.12 mm/failslab.c: int should_failslab(struct kmem_cache *s, gfp_t gfpflags)
            Slab slab {
                name: "slab",
                help: "kmalloc(), kmem_cache_alloc()…",
                function: "should_failslab",
                prototype: "int should_failslab(struct kmem_cache *, gfp_t)",
                alternatives: &[],
                arguments: Arguments { gfp: Some(1), cache: Some(0), ..Arguments::NONE },
                error_type: "ERRNO",
                option: Some(Needs { option: "CONFIG_FAILSLAB", since: (6, 11), lists: true }),
                unlisted: None,
            }
            /// Every allocation from the page allocator, new slabs included.
            // v6.1 mm/page_alloc.c, v6.12 mm/fail_page_alloc.c: bool should_fail_alloc_page(gfp_t gfp_mask, unsigned int order)
            Page page {
                name: "page",
                help: "alloc_pages()…",
                function: "should_fail_alloc_page",
                prototype: "bool should_fail_alloc_page(gfp_t, unsigned int)",
                alternatives: &[],
                arguments: Arguments { gfp: Some(0), order: Some(1), ..Arguments::NONE },
                error_type: "TRUE",
                option: Some(Needs { option: "CONFIG_FAIL_PAGE_ALLOC", since: (6, 11), lists: true }),
                unlisted: None,
            }
            /// Every folio that is added to a page cache.
            // v6.1, v6.12 mm/filemap.c: int __filemap_add_folio(struct address_space *mapping, struct folio *folio, pgoff_t index,
            // gfp_t gfp, void **shadowp)
            // v5.10 mm/filemap.c: int __add_to_page_cache_locked(struct page *page, struct address_space *mapping, pgoff_t offset,
            // gfp_t gfp, void **shadowp)
            Filemap filemap {
                name: "filemap",
                help: "a folio that is added to a page cache",
                function: "__filemap_add_folio",
                prototype: "int __filemap_add_folio(struct address_space *, struct folio *, long unsigned int, gfp_t, void **)",
                alternatives: &[Function {
                    name: "__add_to_page_cache_locked",
                    prototype: "int __add_to_page_cache_locked(struct page *, struct address_space *, long unsigned int, gfp_t, void **)",
                }],
                arguments: Arguments { gfp: Some(3), ..Arguments::NONE },
                error_type: "ERRNO",
                option: None,
                unlisted: None,
            }
            /// Every bio that is submitted to a block device.
            // v6.1, v6.12 block/blk-core.c: int should_fail_bio(struct bio *bio)
            Bio bio {
                name: "bio",
                help: "a request to a block device",
                function: "should_fail_bio",
                prototype: "int should_fail_bio(struct bio *)",
                alternatives: &[],
                arguments: Arguments::NONE,
                error_type: "ERRNO",
                option: Some(Needs { option: "CONFIG_BLOCK", since: (0, 0), lists: false }),
                unlisted: None,
            }
            /// Every allocation of a network driver's page pool.
            // v6.1, v6.12 net/core/page_pool.c: struct page *page_pool_alloc_pages(struct page_pool *pool, gfp_t gfp)
            // v7.3 net/core/page_pool.c: netmem_ref page_pool_alloc_netmems(struct page_pool *pool, gfp_t gfp), which the other calls
            PagePool page_pool {
                name: "page-pool",
                help: "a page for a network driver",
                function: "page_pool_alloc_pages",
                prototype: "struct page *page_pool_alloc_pages(struct page_pool *, gfp_t)",
                alternatives: &[Function {
                    name: "page_pool_alloc_netmems",
                    prototype: "netmem_ref page_pool_alloc_netmems(struct page_pool *, gfp_t)",
                }],
                arguments: Arguments { gfp: Some(1), ..Arguments::NONE },
                error_type: "NULL",
                option: Some(Needs { option: "CONFIG_PAGE_POOL", since: (0, 0), lists: false }),
                unlisted: Some("use a kernel that lists one of them (6.12 and 7.3 do, 6.1 does not)"),
            }
            /// Every virtually contiguous area that pages are allocated for.
            // v6.12 mm/vmalloc.c: void *__vmalloc_node_range_noprof(unsigned long size, unsigned long align, unsigned long start,
            // unsigned long end, gfp_t gfp_mask, pgprot_t prot, unsigned long vm_flags, int node, const void *caller)
            Vmalloc vmalloc {
                name: "vmalloc",
                help: "vmalloc()…, by the module injector_hooks only",
                function: "__vmalloc_node_range_noprof",
                prototype: "void *__vmalloc_node_range_noprof(long unsigned int, long unsigned int, long unsigned int, long unsigned int, gfp_t, pgprot_t, long unsigned int, int, const void *)",
                alternatives: &[Function {
                    name: "__vmalloc_node_range",
                    prototype: "void *__vmalloc_node_range(long unsigned int, long unsigned int, long unsigned int, long unsigned int, gfp_t, pgprot_t, long unsigned int, int, const void *)",
                }],
                arguments: Arguments { gfp: Some(4), size: Some(0), ..Arguments::NONE },
                error_type: "NULL",
                option: None,
                unlisted: Some(BY_MODULE),
            }
            /// Every dynamic per-CPU allocation.
            // v6.12 mm/percpu.c: void __percpu *pcpu_alloc_noprof(size_t size, size_t align, bool reserved, gfp_t gfp)
            Percpu percpu {
                name: "percpu",
                help: "alloc_percpu()…, by the module injector_hooks only",
                function: "pcpu_alloc_noprof",
                prototype: "void *pcpu_alloc_noprof(size_t, size_t, bool, gfp_t)",
                alternatives: &[Function {
                    name: "pcpu_alloc",
                    prototype: "void *pcpu_alloc(size_t, size_t, bool, gfp_t)",
                }],
                arguments: Arguments { gfp: Some(3), size: Some(0), ..Arguments::NONE },
                error_type: "NULL",
                option: None,
                unlisted: Some(BY_MODULE),
            }
        }
    };
}

macro_rules! table {
    ($($(#[$doc:meta])* $variant:ident $program:ident { $($row:tt)* })*) => {
        /// The hooks by number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Number { $($(#[$doc])* $variant),* }

        /// All named hooks, in the order of their numbers.
        pub const NAMED: &[Row] = &[$(Row { program: stringify!($program), $($row)* }),*];
    };
}
named_hooks!(table);

/// The number of the hook on should_failslab().
pub const SLAB: u32 = Number::Slab as u32;
/// The number of the hook on should_fail_alloc_page().
pub const PAGE: u32 = Number::Page as u32;
/// The number of the hook on vmalloc().
pub const VMALLOC: u32 = Number::Vmalloc as u32;
/// The number of the hook on per-CPU allocations.
pub const PERCPU: u32 = Number::Percpu as u32;
/// The number of the first of the hooks on functions that a run names.
pub const FUNCTION: u32 = NAMED.len() as u32;
/// How many functions one rule can name.
pub const MAX_FUNCTIONS: usize = 8;
/// How many hooks there are.
pub const HOOKS: usize = NAMED.len() + MAX_FUNCTIONS;

const _: () = assert!(SLAB == 0 && PAGE == 1, "signatures in journals begin with these");
