//! The maps of a rule's programs: made by us, of aya's types.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use aya::maps::{Map, MapData};
use aya_obj::{EbpfSectionKind, generated::bpf_cmd};

use crate::bpf;
use crate::exit::{Context as _, Result};

/// Maps by name.
#[derive(Debug, Default)]
pub(super) struct Maps(HashMap<String, Map>);

impl Maps {
    /// Has the kernel make them. `types`: what the object says of its types.
    pub(super) fn make(objects: &HashMap<String, aya_obj::Map>, types: BorrowedFd<'_>) -> Result<Self> {
        let mut maps = HashMap::with_capacity(objects.len());
        for (name, object) in objects {
            let data = MapData::create(object.clone(), name, Some(types));
            let data = data.with_context(|| format!("can't make the eBPF map {name}"))?;
            let constant = object.section_kind() == EbpfSectionKind::Rodata;
            if !object.data().is_empty() {
                let filled = fill(data.fd().as_fd(), object.data(), constant);
                filled.with_context(|| format!("can't fill the eBPF map {name}"))?;
            }
            maps.insert(name.clone(), Map::from_map_data(data)?);
        }
        Ok(Self(maps))
    }

    /// One of them.
    pub(super) fn get(&mut self, name: &str) -> Result<&mut Map> {
        self.0.get_mut(name).with_context(|| format!("the eBPF object has no map {name}"))
    }

    /// One of them, which is then no longer among them.
    pub(super) fn take(&mut self, name: &str) -> Result<Map> {
        self.0.remove(name).with_context(|| format!("the eBPF object has no map {name}"))
    }

    /// All of them, with their file descriptors.
    pub(super) fn descriptors(&self) -> HashMap<&str, BorrowedFd<'_>> {
        self.0.iter().filter_map(|(name, map)| Some((name.as_str(), fd(map)?))).collect()
    }
}

/// Fills a map of globals. Constants can't be changed from then on: the verifier takes them for what they are.
fn fill(map: BorrowedFd<'_>, globals: &[u8], constant: bool) -> io::Result<()> {
    let key = 0_u32;
    let mut attribute = bpf::attribute();
    // SAFETY: all of it is zero, which is valid for each member of the union.
    let of = unsafe { &mut attribute.__bindgen_anon_2 };
    of.map_fd = map.as_raw_fd().unsigned_abs();
    of.key = (&raw const key) as u64;
    of.__bindgen_anon_1.value = globals.as_ptr() as u64;
    // SAFETY: the key is readable, and the value for the size of the map's, which was made for it.
    unsafe { bpf::call(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attribute)? };
    if !constant {
        return Ok(());
    }
    let mut attribute = bpf::attribute();
    attribute.__bindgen_anon_2.map_fd = map.as_raw_fd().unsigned_abs();
    // SAFETY: nothing is pointed to.
    unsafe { bpf::call(bpf_cmd::BPF_MAP_FREEZE, &mut attribute) }.map(|_| ())
}

/// The file descriptor of a map, of those kinds that we have.
pub(super) fn fd(map: &Map) -> Option<BorrowedFd<'_>> {
    match map {
        Map::Array(data) | Map::HashMap(data) | Map::LruHashMap(data) | Map::PerCpuArray(data) | Map::RingBuf(data) => {
            Some(data.fd().as_fd())
        }
        _ => None,
    }
}
