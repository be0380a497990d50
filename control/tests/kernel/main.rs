//! Does the kernel's side hold: links seen, devices prepared and put back, the host's own legs? (Needs root.)

mod internal;
mod layer3;
mod links;
mod prepare;
mod routes;

use shunt_control::kernel::Kernel;
use shunt_ffi::netns::TestNamespace;

/// Runs a test in a network namespace of its own.
fn alone<T: Send>(test: impl AsyncFnOnce(&TestNamespace, Kernel) -> T + Send) -> T {
    let namespace = TestNamespace::new();
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (kernel, _links) = Kernel::open().await.expect("netlink sockets");
            test(&namespace, kernel).await
        })
    })
}
