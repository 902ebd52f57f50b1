//! Anything a router, a client and an operator may do, against what must hold.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// Queue so many messages of so many bytes, then flush when told to.
    Push(usize, usize),
    /// The client reads so many frames, if they are there.
    Read(usize),
    /// The client answers the last ping it read.
    Pong,
    /// The client says something.
    Say,
    /// Time passes, in milliseconds.
    Wait(u64),
    Close,
    PeerCloses,
    HangUp,
    Abort,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..20usize, 1..40usize).prop_map(|(count, len)| Step::Push(count, len)),
        8 => (1..20usize).prop_map(Step::Read),
        2 => Just(Step::Pong),
        2 => Just(Step::Say),
        4 => prop_oneof![Just(1), Just(300), 1..3_000u64].prop_map(Step::Wait),
        1 => prop::sample::select(vec![Step::Close, Step::PeerCloses, Step::HangUp, Step::Abort]),
    ]
}

#[derive(Default)]
struct Model {
    queued: u64,
    received: Vec<u64>,
    ping: Option<Vec<u8>>,
}

impl Model {
    fn note(&mut self, received: Received) {
        match received {
            Received::Text(text) => {
                self.received.push(text.trim_start_matches('0').parse().expect("a number"))
            }
            Received::Ping(payload) => self.ping = Some(payload),
            Received::Pong(_) | Received::Close(..) | Received::End => {}
        }
    }

    async fn apply(&mut self, step: Step, rig: &mut Rig, held: &Held) {
        // What a client sends to a session that is over may never be taken.
        let _ = tokio::time::timeout(Duration::from_secs(4), self.attempt(step, rig, held)).await;
        self.check(rig);
    }

    async fn attempt(&mut self, step: Step, rig: &mut Rig, held: &Held) {
        match step {
            Step::Push(count, len) => {
                let mut first = false;
                for _ in 0..count {
                    let seq = self.queued + 1;
                    let message = outgoing_of(seq, format!("\"{seq:0len$}\""));
                    match rig.session.queue(&message, Some(&held.token())) {
                        Queued::Closed => continue,
                        Queued::First => first = true,
                        Queued::Already => {}
                    }
                    self.queued = seq;
                }
                if first {
                    rig.session.flush();
                }
            }
            Step::Read(count) => {
                for _ in 0..count {
                    rig.client.try_next().into_iter().for_each(|received| self.note(received));
                    quiesce().await;
                }
            }
            Step::Pong => {
                if let Some(payload) = self.ping.take() {
                    rig.client.pong(&payload).await;
                }
            }
            Step::Say => rig.client.text("alive").await,
            Step::Wait(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
            Step::Close => rig.session.close(CloseCode::RESTART, "restart"),
            Step::PeerCloses => rig.client.close(1000, "").await,
            Step::HangUp => rig.client.hang_up(),
            Step::Abort => rig.task.abort(),
        }
    }

    /// What holds at any time.
    fn check(&self, rig: &Rig) {
        let written = rig.log.seqs_written();
        assert!(written.iter().copied().eq(1..=written.len() as u64), "each once, in order: {written:?}");
        assert_eq!(self.received[..], written[..self.received.len()], "received is written");
        let confirmed = rig.log.seqs_confirmed();
        assert!(confirmed.is_sorted());
        assert!(confirmed.iter().all(|seq| self.received.contains(seq)), "confirmed is received");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_happens_frames_keep_their_order_tokens_come_back_and_the_end_is_told_once(
        capacity in 1..200usize,
        steps in vec(step(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let options = Options { outbox_messages_max: 60, outbox_bytes_max: 1_500, ..Options::default() };
            let mut rig = Rig::with(Dialect::Plain, capacity, options, Bytes::new());
            rig.identify(Some("phone"));
            let (mut model, held) = (Model::default(), Held::default());
            for step in steps {
                model.apply(step, &mut rig, &held).await;
            }
            rig.session.close(CloseCode::GOING_AWAY, "the end of the test");
            let Rig { session, mut client, log, metrics, task, _wheel } = rig;
            let reading = tokio::spawn(async move {
                let mut rest = Vec::new();
                while rest.last() != Some(&Received::End) {
                    rest.push(client.next().await);
                }
                rest
            });
            // An aborted run is over as well.
            let _ = task.await;
            for received in reading.await.expect("ends") {
                model.note(received);
            }
            assert_eq!(held.count(), 0, "every token came back");
            assert_eq!(log.endings().len(), 1);
            assert!(matches!(log.all().last(), Some(Told::Closed(_))), "after everything else");
            assert_eq!(model.received, log.seqs_written(), "what was written arrived, and nothing else");
            assert_eq!(session.outbox_bytes(), 0);
            assert!(metrics.render().contains("postrider_outbox_bytes 0\n"));
        });
    }
}
