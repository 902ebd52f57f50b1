//! What an idle session weighs: a node has tens of thousands.

use bytes::Buf;

use super::*;

#[test]
fn a_session_and_its_task_are_small() {
    // A growth is a decision: it is paid for by every connection.
    assert!(size_of::<Session>() <= 512, "a session takes {} bytes", size_of::<Session>());
    assert!(size_of::<Run>() <= 168, "its task takes {} bytes", size_of::<Run>());
}

/// A handshake's buffer is 8 KiB and more, and what is left of it is nearly
/// always nothing. Found by weighing: that nothing held on to all of it.
#[tokio::test]
async fn nothing_of_the_handshake_is_kept() {
    struct Buffer(Vec<u8>, Arc<AtomicUsize>);
    impl AsRef<[u8]> for Buffer {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Buffer {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let mut leftover = Bytes::from_owner(Buffer(vec![0; 8_192], dropped.clone()));
    leftover.advance(8_192);
    let Parts { session, .. } = Parts::new(Dialect::Plain, AMPLE, Options::default());
    let _run = session.run(leftover);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}
