//! Which message a receiver is spoken to in: 2.0, 1.0, and how the choice is found.

use super::*;

#[test]
fn falls_back_on_415_and_stays() {
    let mut bench = Bench::new(config());
    bench.scrape(1, 10);
    bench.send();
    assert_eq!(bench.sender.request().protocol, Protocol::V2);
    let sent_at = bench.now;
    assert_eq!(bench.answer(415), Verdict::FallBackToV1);
    bench.send();
    assert_eq!(bench.now, sent_at, "at once");
    assert_eq!(bench.sender.request().protocol, Protocol::V1);
    let sent = decode(bench.sender.request().body, Protocol::V1);
    assert_eq!(sent.len(), 15);
    assert_eq!(bench.answer(204), Verdict::Accepted);
    assert_eq!(bench.acknowledged(), 1);
    bench.scrape(1, 10);
    bench.send();
    assert_eq!(bench.sender.request().protocol, Protocol::V1);
}

#[test]
fn success_without_written_headers_is_sent_again_as_v1() {
    let mut bench = Bench::new(config());
    bench.scrape(1, 10);
    bench.send();
    assert_eq!(bench.answer(200), Verdict::FallBackToV1);
    assert_eq!(bench.acknowledged(), 0);
    bench.send();
    assert_eq!(bench.answer(200), Verdict::Accepted);
    assert_eq!((bench.acknowledged(), bench.sender.protocol()), (1, Protocol::V1));
}

#[test]
fn a_captive_portal_does_not_swallow_data_of_a_confirmed_receiver() {
    let mut bench = Bench::new(config());
    bench.scrape(1, 10);
    bench.send();
    bench.accept();
    bench.scrape(1, 10);
    bench.send();
    assert_eq!(bench.answer(200), Verdict::Hold(HoldReason::Unconfirmed));
    assert_eq!(bench.acknowledged(), 1);
    bench.send();
    bench.accept();
    assert_eq!((bench.acknowledged(), bench.sender.protocol()), (2, Protocol::V2));
}

#[test]
fn a_v1_receiver_that_answers_400_gets_v1() {
    let mut bench = Bench::new(config());
    bench.scrape(1, 10);
    bench.send();
    let sent_at = bench.now;
    assert_eq!(bench.answer(400), Verdict::FallBackToV1);
    bench.send();
    assert_eq!(bench.now.since(sent_at), 5000);
    assert_eq!(bench.answer(204), Verdict::Accepted);
    assert_eq!(bench.sender.counters().samples_failed, 0);
    assert_eq!(bench.sender.protocol(), Protocol::V1);
}

#[test]
fn a_lone_400_does_not_change_the_message() {
    let mut bench = Bench::new(config());
    bench.scrape(1, 10);
    bench.send();
    bench.answer(400);
    bench.send();
    assert_eq!(bench.answer(400), Verdict::Drop(DropReason::Refused { status: 400 }));
    assert_eq!((bench.acknowledged(), bench.sender.counters().samples_failed), (1, 15));
    bench.scrape(1, 10);
    bench.send();
    assert_eq!(bench.sender.request().protocol, Protocol::V2);
}

#[test]
fn an_unsupported_v1_offers_v2_again() {
    let mut bench = Bench::new(config());
    bench.scrape(1, 10);
    bench.send();
    bench.answer(415);
    bench.send();
    assert_eq!(bench.answer(415), Verdict::Hold(HoldReason::Unsupported));
    bench.send();
    assert_eq!(bench.sender.request().protocol, Protocol::V2);
    bench.accept();
    assert_eq!(bench.acknowledged(), 1);
}
