//! How does an expression of tcpdump become a program? libpcap compiles it.
//!
//! The library is opened when it is first needed, not linked: only who gives a filter needs it, and everything else works without.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr;

/// The library's file, by the number of its interface (1.0 and later).
const FILE: &CStr = c"libpcap.so.0.8";
/// What other distributions call it.
const OTHER_FILE: &CStr = c"libpcap.so.1";
/// DLT_EN10MB: frames begin with an Ethernet header.
const ETHERNET: c_int = 1;
/// Longest packet there is, as tcpdump has it.
const SNAPLEN: c_int = 262_144;
/// PCAP_NETMASK_UNKNOWN: `ip broadcast` cannot be told.
const NETMASK_UNKNOWN: c_uint = u32::MAX;

/// Why there is no program.
#[derive(Debug, thiserror::Error)]
pub enum PcapError {
    /// The library is not there.
    #[error("a filter needs libpcap, and it cannot be loaded ({0}); try: apt install libpcap0.8")]
    Missing(String),
    /// It has not what we need.
    #[error("the libpcap that is installed has no {0}: install libpcap 1.0 or later")]
    Symbol(String),
    /// The expression is wrong.
    #[error("filter \"{expression}\": {problem} (see pcap-filter(7))")]
    Expression {
        /// As given.
        expression: String,
        /// What libpcap says.
        problem: String,
    },
}

/// One instruction of classic BPF, as `struct bpf_insn` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to pass over if the condition holds.
    pub jt: u8,
    /// And if not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// `struct bpf_program`.
#[repr(C)]
struct Program {
    len: c_uint,
    instructions: *mut Instruction,
}

/// `pcap_t`, of which only the library knows more.
#[repr(C)]
struct Handle {
    _opaque: [u8; 0],
}

type OpenDead = unsafe extern "C" fn(c_int, c_int) -> *mut Handle;
type Compile = unsafe extern "C" fn(*mut Handle, *mut Program, *const c_char, c_int, c_uint) -> c_int;
type GetError = unsafe extern "C" fn(*mut Handle) -> *const c_char;
type FreeCode = unsafe extern "C" fn(*mut Program);
type Close = unsafe extern "C" fn(*mut Handle);

/// Compiles an expression (pcap-filter(7)) for Ethernet frames. VLAN tags are where they are on the wire: in the frame.
///
/// May ask a name server, if the expression has names of hosts.
pub fn compile(expression: &str) -> Result<Vec<Instruction>, PcapError> {
    let wrong = |problem: String| PcapError::Expression { expression: expression.to_owned(), problem };
    let text = CString::new(expression).map_err(|_| wrong("it contains the octet 0".to_owned()))?;
    let library = load()?;
    // SAFETY: these are the library's functions of these names, and their types are those of <pcap/pcap.h> since 1.0.
    let (open_dead, compile, get_error, free_code, close) = unsafe {
        (
            std::mem::transmute::<*mut c_void, OpenDead>(symbol(library, c"pcap_open_dead")?),
            std::mem::transmute::<*mut c_void, Compile>(symbol(library, c"pcap_compile")?),
            std::mem::transmute::<*mut c_void, GetError>(symbol(library, c"pcap_geterr")?),
            std::mem::transmute::<*mut c_void, FreeCode>(symbol(library, c"pcap_freecode")?),
            std::mem::transmute::<*mut c_void, Close>(symbol(library, c"pcap_close")?),
        )
    };
    // SAFETY: takes two numbers; returns a handle that is ours to close, or null.
    let handle = unsafe { open_dead(ETHERNET, SNAPLEN) };
    if handle.is_null() {
        return Err(wrong("libpcap has no memory".to_owned()));
    }
    let mut program = Program { len: 0, instructions: ptr::null_mut() };
    // SAFETY: the handle is open, `program` is ours to be filled, `text` ends with a zero and outlives the call.
    let status = unsafe { compile(handle, &mut program, text.as_ptr(), 1, NETMASK_UNKNOWN) };
    let result = if status == 0 && !program.instructions.is_null() {
        // SAFETY: a compiled program has `len` instructions there, which stay until it is freed below.
        let instructions = unsafe { std::slice::from_raw_parts(program.instructions, program.len as usize) };
        Ok(instructions.to_vec())
    } else {
        // SAFETY: the handle is open; its text ends with a zero and stays until the next call with the handle.
        let problem = unsafe { CStr::from_ptr(get_error(handle)) };
        Err(wrong(problem.to_string_lossy().into_owned()))
    };
    // SAFETY: freed once (of nothing, if nothing was compiled), and then nobody uses either any more.
    unsafe {
        free_code(&mut program);
        close(handle);
    }
    result
}

/// The library. It stays loaded: a filter is compiled once in a program's life.
fn load() -> Result<*mut c_void, PcapError> {
    for file in [FILE, OTHER_FILE] {
        // SAFETY: the name ends with a zero. libpcap's initialisers have no demands on who loads it.
        let library = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW) };
        if !library.is_null() {
            return Ok(library);
        }
    }
    // SAFETY: no demands; the text is null or ends with a zero, and stays until the thread's next call.
    let text = unsafe { libc::dlerror().as_ref().map(|text| CStr::from_ptr(text)) };
    Err(PcapError::Missing(
        text.map_or_else(|| "no reason given".to_owned(), |text| text.to_string_lossy().into_owned()),
    ))
}

fn symbol(library: *mut c_void, name: &CStr) -> Result<*mut c_void, PcapError> {
    // SAFETY: the library is open and the name ends with a zero.
    let found = unsafe { libc::dlsym(library, name.as_ptr()) };
    if found.is_null() { Err(PcapError::Symbol(name.to_string_lossy().into_owned())) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_compiled_and_a_wrong_one_explained() {
        let line = |code, jt, jf, k| Instruction { code, jt, jf, k };
        let arp = compile("arp").unwrap();
        assert_eq!(arp[..2], [line(0x28, 0, 0, 12), line(0x15, 0, 1, 0x0806)]);
        assert!(
            matches!(arp[2..], [Instruction { code: 6, k: 1.., .. }, Instruction { code: 6, k: 0, .. }]),
            "{arp:?}"
        );
        let vlan = compile("vlan 7 and tcp port 80").unwrap();
        assert!(vlan.contains(&line(0x15, vlan[1].jt, vlan[1].jf, 0x8100)), "the tag is in the frame: {vlan:?}");
        for (wrong, what) in [("prot 80", "syntax error"), ("port 70000", "port number"), ("\0", "octet 0")] {
            let error = compile(wrong).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
