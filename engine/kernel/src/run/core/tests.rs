use super::*;
use crate::sha::sha256;

const LONG: Duration = Duration::from_secs(60);

fn outcome() -> Result<Outcome> {
    Ok(Outcome { root: None, summary: vec![("n", 1)] })
}

fn failure(core: &Core) -> Error {
    loop {
        match core.next(LONG) {
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

#[test]
fn events_come_in_order_and_end_with_finished() {
    let core = start("test", |core| {
        for size in 0..1000 {
            core.emit(Event::ItemDone { path: vec![], action: "new", size })?;
        }
        outcome()
    })
    .unwrap();
    for expected in 0..1000 {
        assert!(matches!(core.next(LONG), Ok(Some(Event::ItemDone { size, .. })) if size == expected));
    }
    assert!(matches!(core.next(LONG), Ok(Some(Event::Finished(o))) if o.summary == [("n", 1)]));
    assert!(matches!(core.next(LONG), Err(Error::Invalid(_))));
}

#[test]
fn questions_are_answered_from_other_threads() {
    let core = start("test", |core| {
        let pack = sha256(b"pack");
        let first = core.fetch(BlobKind::Data, pack, 10, 3)?;
        let second = core.fetch(BlobKind::Data, pack, 20, 3)?;
        let third = core.fetch(BlobKind::Tree, pack, 30, 3)?;
        assert!(matches!(second.wait(), Err(Error::Refused(why)) if why.contains("no such file")));
        assert!(matches!(third.wait(), Err(Error::Refused(why)) if why.contains("2 bytes")));
        assert_eq!((*first.wait()?).as_ref(), b"abc");
        outcome()
    })
    .unwrap();
    let mut tickets = Vec::new();
    for _ in 0..3 {
        let Ok(Some(Event::Fetch { ticket, .. })) = core.next(LONG) else { panic!("no question came") };
        tickets.push(ticket);
    }
    core.provide(tickets[2], Box::new(b"ab".to_vec())).unwrap();
    core.refuse(tickets[1], "no such file".to_owned()).unwrap();
    core.provide(tickets[0], Box::new(b"abc".to_vec())).unwrap();
    assert!(core.provide(tickets[0], Box::new(b"abc".to_vec())).is_err());
    assert!(matches!(core.next(LONG), Ok(Some(Event::Finished(_)))));
}

#[test]
fn cancel_wakes_every_kind_of_wait() {
    let core = start("test", |core| {
        let pool = core.pool(1, 10, 10);
        let held = pool.take()?;
        let queue = core.queue::<u8>(1);
        queue.push(1)?;
        let pending = core.fetch(BlobKind::Data, sha256(b"pack"), 0, 1)?;
        core.scope(|threads| {
            threads.spawn("pool", || pool.take().map(|_| ()))?;
            threads.spawn("queue", || queue.push(2))?;
            threads.spawn("fetch", || pending.wait().map(|_| ()))?;
            Ok(())
        })?;
        drop(held);
        outcome()
    })
    .unwrap();
    assert!(matches!(core.next(LONG), Ok(Some(Event::Fetch { .. }))));
    core.cancel();
    core.cancel();
    assert_eq!(failure(&core), Error::Cancelled);
    core.provide(1, Box::new(Vec::new())).unwrap();
}

#[test]
fn a_full_event_queue_lets_go_on_cancel() {
    let core = start("test", |core| {
        loop {
            core.emit(Event::ItemDone { path: vec![], action: "new", size: 0 })?;
        }
    })
    .unwrap();
    assert!(core.next(LONG).is_ok());
    core.cancel();
    assert_eq!(failure(&core), Error::Cancelled);
}

#[test]
fn a_panic_of_any_thread_ends_the_run_and_frees_the_others() {
    let core = start("test", |core| {
        let queue = core.queue::<u8>(1);
        core.scope(|threads| {
            threads.spawn("waits", || queue.pop().map(|_| ()))?;
            threads.spawn("dies", || panic!("injected"))?;
            Ok(())
        })?;
        outcome()
    })
    .unwrap();
    let Error::System(message) = failure(&core) else { panic!("not a failure of the system") };
    assert!(message.contains("dies") && message.contains("injected"), "{message}");
}

#[test]
fn a_panic_within_a_scope_frees_its_threads() {
    let core = start("test", |core| {
        let queue = core.queue::<u8>(1);
        core.scope(|threads| -> Result<()> {
            threads.spawn("waits", || queue.pop().map(|_| ()))?;
            panic!("injected")
        })?;
        outcome()
    })
    .unwrap();
    assert!(failure(&core).to_string().contains("injected"));
}

#[test]
fn the_first_failure_is_the_one_that_is_told() {
    let core = start("test", |core| {
        core.scope(|threads| {
            threads.spawn("fails", || Err(Error::damaged("the real reason")))?;
            let forever = core.queue::<u8>(1);
            forever.pop().map(|_| ())
        })?;
        outcome()
    })
    .unwrap();
    assert_eq!(failure(&core), Error::damaged("the real reason"));
}
