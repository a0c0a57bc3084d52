//! What the allocator's functions are called: who stands before them on a stack asked for memory.
//!
//! The one table of these names: the filters on a call's caller, the place of a site and the titles of complaints use it.

/// Of which kind an allocating function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocator {
    /// The allocator's own: between the hook and whoever called the allocator.
    Own,
    /// It allocates for its caller, and calls the allocator for that.
    Wrapper,
}

/// Names without leading underscores and `_noprof`, see [`super::names`]. The first row that has the name counts.
const NAMES: &[(Allocator, &str)] = &[
    // mm/slub.c, mm/slab_common.c of 5.10 to 7.3
    (
        Allocator::Own,
        "kmem_cache_alloc* do_kmem_cache_alloc* kmalloc kmalloc_trace* kmalloc_large* kmalloc_order* kmalloc_node* \
         kmalloc_cache* kmalloc_track_caller* kmalloc_slab kmalloc_nolock* do_kmalloc* krealloc* do_krealloc* \
         slab_alloc* slab_pre_alloc_hook* slab_post_alloc_hook* new_slab* allocate_slab alloc_slab_page \
         alloc_slab_obj_exts get_partial* get_from_partial* get_any_partial* alloc_single_from* should_failslab \
         should_fail*",
    ),
    // mm/page_alloc.c, mm/mempolicy.c, mm/filemap.c
    (
        Allocator::Own,
        "alloc_page alloc_page_vma* alloc_page_interleave* alloc_pages* alloc_frozen_pages* \
         alloc_contig* prepare_alloc_pages folio_alloc folio_alloc_mpol* folio_alloc_node* \
         vma_alloc_folio* filemap_alloc_folio* get_free_page* get_free_pages* get_zeroed_page* get_page_from_freelist \
         prep_new_page post_alloc_hook rmqueue*",
    ),
    // mm/util.c, mm/vmalloc.c, mm/slab_common.c
    (
        Allocator::Wrapper,
        "kmalloc* kzalloc* kcalloc* kvmalloc* kvzalloc* kvcalloc* kvrealloc* vmalloc* vzalloc* get_vm_area* \
         alloc_vmap_area kmem_cache_create* do_kmem_cache_create* create_cache kstrdup* kstrndup kmemdup* kvmemdup* \
         kasprintf kvasprintf* memdup_* vmemdup_* strndup_user",
    ),
    // mm/filemap.c, mm/percpu.c, mm/mempool.c, mm/dmapool.c, fs/xfs/kmem.c before 6.9
    (
        Allocator::Wrapper,
        "filemap_get_folio* pagecache_get_page grab_cache_page* folio_alloc_buffers alloc_percpu* pcpu_alloc* \
         pcpu_create_chunk pcpu_populate* mempool_* dma_pool_alloc devm_* devres_* kmem_alloc* kmem_zalloc*",
    ),
    // net/core/skbuff.c, net/core/sock.c, net/core/page_pool.c, block/bio.c
    (
        Allocator::Wrapper,
        "alloc_skb* napi_alloc_skb* netdev_alloc_skb* dev_alloc_skb* build_skb* sk_prot_alloc \
         sk_alloc sock_kmalloc sock_kzalloc sock_wmalloc sock_alloc_send_* page_pool_alloc* page_pool_dev_alloc* \
         bio_alloc* bvec_alloc",
    ),
    // mm/kmemleak.c, lib/stackdepot.c, mm/memcontrol.c: they record what was allocated
    (
        Allocator::Wrapper,
        "kmemleak_* create_object delete_object* mem_pool_alloc stack_depot_* obj_cgroup_* memcg_* mod_objcg_* \
         list_lru_add*",
    ),
];

/// Of which kind a function is; none if it is no allocator's.
#[must_use]
pub fn kind(function: &str) -> Option<Allocator> {
    let function = super::names::stem(function);
    NAMES.iter().find(|(_, names)| super::names::has(names, function)).map(|(kind, _)| *kind)
}

/// Whether a function is the allocator's own.
#[must_use]
pub fn is_its_own(function: &str) -> bool {
    kind(function) == Some(Allocator::Own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose() {
        for own in [
            "kmem_cache_alloc_noprof",
            "__kmalloc_node_track_caller_noprof",
            "___slab_alloc.isra.0",
            "alloc_pages_mpol",
            "__alloc_frozen_pages_noprof",
            "vma_alloc_folio",
            "__folio_alloc_noprof",
        ] {
            assert_eq!(kind(own), Some(Allocator::Own), "{own}");
        }
        for wrapper in ["kstrdup", "kmalloc_reserve", "__vmalloc_node_range_noprof", "mempool_alloc", "__alloc_skb"] {
            assert_eq!(kind(wrapper), Some(Allocator::Wrapper), "{wrapper}");
        }
        for other in ["rpc_malloc", "getname_flags", "alloc_inode", "alloc_page_buffers", "foo"] {
            assert_eq!(kind(other), None, "{other}");
        }
    }

    #[test]
    fn no_name_stands_twice() {
        super::super::names::check(NAMES.iter().map(|(_, names)| *names));
    }
}
