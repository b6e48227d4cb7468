//! `linux.seccomp.architectures`: which of the specification's libseccomp can have in one filter with the machine's own.

use libseccomp::error::{SeccompErrno, SeccompError};
use libseccomp::{ScmpAction, ScmpArch, ScmpFilterContext, ScmpVersion};
use oci_spec::runtime::Arch;

use crate::error::{Error, Result};

/// All that the specification names.
const ALL: [Arch; 23] = [
    Arch::ScmpArchAarch64,
    Arch::ScmpArchArm,
    Arch::ScmpArchLoongarch64,
    Arch::ScmpArchM68k,
    Arch::ScmpArchMips,
    Arch::ScmpArchMips64,
    Arch::ScmpArchMips64n32,
    Arch::ScmpArchMipsel,
    Arch::ScmpArchMipsel64,
    Arch::ScmpArchMipsel64n32,
    Arch::ScmpArchParisc,
    Arch::ScmpArchParisc64,
    Arch::ScmpArchPpc,
    Arch::ScmpArchPpc64,
    Arch::ScmpArchPpc64le,
    Arch::ScmpArchRiscv64,
    Arch::ScmpArchS390,
    Arch::ScmpArchS390x,
    Arch::ScmpArchSh,
    Arch::ScmpArchSheb,
    Arch::ScmpArchX32,
    Arch::ScmpArchX86,
    Arch::ScmpArchX86_64,
];

/// The names of those that a filter can be had for here.
pub(crate) fn supported() -> Vec<String> {
    ALL.into_iter().filter(|arch| add(token(*arch)).is_ok()).map(|arch| arch.to_string()).collect()
}

/// One of the list in libseccomp's terms.
///
/// # Errors
/// libseccomp does not know it, or can't have it in a filter for this machine.
pub(super) fn read(arch: Arch, index: usize) -> Result<ScmpArch> {
    let token = token(arch);
    let Err(error) = add(token) else { return Ok(token) };
    let why = match error.errno() {
        Some(SeccompErrno::EINVAL) => match ScmpVersion::current() {
            Ok(version) => format!("libseccomp {version} does not know {arch}"),
            Err(_) => format!("this libseccomp does not know {arch}"),
        },
        // libseccomp(3) has one byte order a filter.
        Some(SeccompErrno::EDOM) => {
            format!("{arch} has another byte order than this machine, and a filter has but one")
        }
        _ => format!("{arch}: {error}"),
    };
    let error = Error::at(format!("linux.seccomp.architectures[{index}]"), why);
    Err(error.advise("leave it out: no program of it runs here"))
}

/// Tries it, in a filter that comes to nothing.
fn add(arch: ScmpArch) -> Result<(), SeccompError> {
    if arch == ScmpArch::Native || arch == ScmpArch::native() {
        return Ok(());
    }
    ScmpFilterContext::new(ScmpAction::Allow)?.add_arch(arch).map(drop)
}

fn token(arch: Arch) -> ScmpArch {
    match arch {
        Arch::ScmpArchNative => ScmpArch::Native,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchMips => ScmpArch::Mips,
        Arch::ScmpArchMips64 => ScmpArch::Mips64,
        Arch::ScmpArchMips64n32 => ScmpArch::Mips64N32,
        Arch::ScmpArchMipsel => ScmpArch::Mipsel,
        Arch::ScmpArchMipsel64 => ScmpArch::Mipsel64,
        Arch::ScmpArchMipsel64n32 => ScmpArch::Mipsel64N32,
        Arch::ScmpArchPpc => ScmpArch::Ppc,
        Arch::ScmpArchPpc64 => ScmpArch::Ppc64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390 => ScmpArch::S390,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        Arch::ScmpArchParisc => ScmpArch::Parisc,
        Arch::ScmpArchParisc64 => ScmpArch::Parisc64,
        Arch::ScmpArchLoongarch64 => ScmpArch::Loongarch64,
        Arch::ScmpArchM68k => ScmpArch::M68k,
        Arch::ScmpArchSh => ScmpArch::Sh,
        Arch::ScmpArchSheb => ScmpArch::Sheb,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_specifications() {
        for arch in ALL {
            assert_eq!(serde_json::to_value(arch).unwrap(), arch.to_string());
        }
    }

    #[test]
    fn what_can_not_be_had_is_named() {
        let said = |arch, index| read(arch, index).unwrap_err().to_string();
        if cfg!(target_endian = "little") {
            assert!(said(Arch::ScmpArchS390x, 2).starts_with(
                "`linux.seccomp.architectures[2]`: SCMP_ARCH_S390X has another byte order than this machine"
            ));
            assert!(!supported().contains(&"SCMP_ARCH_S390X".to_owned()));
        }
        assert_eq!(read(Arch::ScmpArchNative, 0).unwrap(), ScmpArch::Native);
        let supported = supported();
        for arch in ALL {
            let known = supported.contains(&arch.to_string());
            assert_eq!(read(arch, 0).is_ok(), known, "{arch}");
            assert!(known || said(arch, 0).contains(&arch.to_string()), "{arch}");
        }
        assert!(!supported.is_empty());
    }
}
