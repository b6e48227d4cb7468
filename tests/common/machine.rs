//! Programs of a few instructions for x86-64, which make the system calls that a test wants and no other.

use std::path::Path;

/// Where the file is in memory, with the headers of ELF64 before the first instruction.
const BASE: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 56;

const EXIT_GROUP: u32 = 231;

/// The instructions.
#[derive(Clone, Default)]
pub(crate) struct Code(Vec<u8>);

impl Code {
    fn add(mut self, bytes: &[u8]) -> Code {
        self.0.extend(bytes);
        self
    }

    /// `syscall`, by the numbers of x86-64, or of x32 with its bit.
    pub(crate) fn call(self, number: u64, args: &[u64]) -> Code {
        // mov rax; rdi, rsi, rdx, r10, r8, r9
        const REGISTERS: [[u8; 2]; 6] =
            [[0x48, 0xbf], [0x48, 0xbe], [0x48, 0xba], [0x49, 0xba], [0x49, 0xb8], [0x49, 0xb9]];
        let code = self.add(&[0x48, 0xb8]).add(&number.to_le_bytes());
        let code = args.iter().zip(REGISTERS).fold(code, |code, (arg, mov)| code.add(&mov).add(&arg.to_le_bytes()));
        code.add(&[0x0f, 0x05])
    }

    /// `int 0x80`, by the numbers of i386.
    pub(crate) fn call_i386(self, number: u32, args: &[u32]) -> Code {
        // mov eax; ebx, ecx, edx
        let code = self.add(&[0xb8]).add(&number.to_le_bytes());
        let moved = args.iter().zip([0xbb, 0xb9, 0xba]);
        moved.fold(code, |code, (arg, mov)| code.add(&[mov]).add(&arg.to_le_bytes())).add(&[0xcd, 0x80])
    }

    /// Ends the process with the errno of the last call: 0 where it had none.
    pub(crate) fn exit_with_errno(self) -> Code {
        // movsxd rdi, eax; neg rdi; mov eax; syscall
        self.add(&[0x48, 0x63, 0xf8, 0x48, 0xf7, 0xdf, 0xb8]).add(&EXIT_GROUP.to_le_bytes()).add(&[0x0f, 0x05])
    }

    pub(crate) fn exit(self, code: u8) -> Code {
        self.call(EXIT_GROUP.into(), &[code.into()])
    }

    /// Runs `thread` in a thread, which must not return, and goes on when that is dead.
    pub(crate) fn in_a_thread(self, thread: Code) -> Code {
        const CLONE: u64 = 56;
        // CLONE_VM, FS, FILES, SIGHAND, THREAD; VFORK, which waits.
        const FLAGS: u64 = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4000;
        // A stack is needed by nobody, but clone must be given one. test eax, eax; jnz
        let code = self.call(CLONE, &[FLAGS, BASE, 0, 0, 0]).add(&[0x85, 0xc0, 0x0f, 0x85]);
        code.add(&(thread.0.len() as u32).to_le_bytes()).add(&thread.0)
    }

    /// A program that begins by having `handler`, which must not return, take a signal.
    pub(crate) fn handling(signal: u64, handler: &Code) -> Code {
        const RT_SIGACTION: u64 = 13;
        // jmp over the structure that rt_sigaction reads, and the handler
        const JUMP: u64 = 5;
        const ACTION: u64 = 32;
        let action = BASE + HEADERS + JUMP;
        // SA_RESTORER, which x86-64 insists on.
        let fields = [action + ACTION, 0x0400_0000, action + ACTION, 0];
        let code = Code::default().add(&[0xe9]).add(&(ACTION as u32 + handler.0.len() as u32).to_le_bytes());
        let code = fields.iter().fold(code, |code, field| code.add(&field.to_le_bytes())).add(&handler.0);
        code.call(RT_SIGACTION, &[signal, action, 0, 8])
    }

    /// Writes it as an executable file.
    pub(crate) fn install(self, path: &Path) {
        let size = HEADERS + self.0.len() as u64;
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        // An executable (2) for x86-64 (62); the entry; where the one program header is.
        file.extend([2u16, 62].map(u16::to_le_bytes).concat());
        file.extend(1u32.to_le_bytes());
        file.extend([BASE + HEADERS, 64, 0].map(u64::to_le_bytes).concat());
        file.extend(0u32.to_le_bytes());
        file.extend([64u16, 56, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
        // To be loaded (1), to be read and executed (5).
        file.extend([1u32, 5].map(u32::to_le_bytes).concat());
        file.extend([0, BASE, BASE, size, size, 0x1000].map(u64::to_le_bytes).concat());
        assert_eq!(file.len() as u64, HEADERS);
        file.extend(self.0);
        super::program::write(path, file);
    }
}
