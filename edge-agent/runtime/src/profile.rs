//! Which memory profile the address space of this machine and process allows.

use protocol::reported::MemoryProfile;
use rustix::process::{Resource, getrlimit};

/// Address space that `fast` wants: room for 4 GiB and guards for each of a thousand memories, four times over.
/// A 47-bit space (the usual PC, and 48-bit ARM) has 32 times that; the 39-bit one of Raspberry Pi OS holds 125
/// memories in all and starts to fail before.
const ROOM: u64 = 1 << 44;

/// What the decision rests on.
#[derive(Debug, Clone, Copy)]
struct AddressSpace {
    /// The highest address in use: the stack lies at the top.
    top: u64,
    /// RLIMIT_AS.
    limit: Option<u64>,
    /// vm.overcommit_memory: 2 counts reservations as if they were memory.
    overcommit: u8,
}

/// The memory profile that this process' address space allows.
pub fn probe_memory_profile() -> MemoryProfile {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let overcommit = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap_or_default();
    profile(AddressSpace {
        top: top(&maps),
        limit: getrlimit(Resource::As).current,
        overcommit: overcommit.trim().parse().unwrap_or(0),
    })
}

fn profile(space: AddressSpace) -> MemoryProfile {
    let room = space.top.min(space.limit.unwrap_or(u64::MAX));
    if room >= ROOM && space.overcommit != 2 { MemoryProfile::Fast } else { MemoryProfile::Compact }
}

/// The end of the stack's mapping.
fn top(maps: &str) -> u64 {
    let stack = maps.lines().find(|line| line.ends_with("[stack]"));
    let range = stack.and_then(|line| line.split(' ').next());
    let end = range.and_then(|range| range.split('-').nth(1));
    end.and_then(|end| u64::from_str_radix(end, 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(top: u64, limit: Option<u64>, overcommit: u8, expected: MemoryProfile) {
        let space = AddressSpace { top, limit, overcommit };
        assert_eq!(profile(space), expected, "{space:x?}");
    }

    #[test]
    fn profiles() {
        let (pc, pi) = (0x7ffd_1234_5000, 0x7f_ffff_f000);
        check(pc, None, 0, MemoryProfile::Fast);
        check(pc, None, 1, MemoryProfile::Fast);
        check(pc, None, 2, MemoryProfile::Compact);
        check(pc, Some(3 << 30), 0, MemoryProfile::Compact);
        check(pi, None, 0, MemoryProfile::Compact);
        // Nothing known: the careful one.
        check(0, None, 0, MemoryProfile::Compact);
    }

    #[test]
    fn the_top_is_the_end_of_the_stack() {
        let maps = "5581-5582 r--p 00000000 08:01 1 /bin/x\n7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0          [stack]\n\
                    7ffc0012-7ffc0014 r-xp 00000000 00:00 0   [vdso]\n";
        assert_eq!(top(maps), 0x7ffc_0002_1000);
        assert_eq!(top(""), 0);
    }
}
