use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Wake, Waker};

use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::sync::{Barrier, Semaphore, mpsc};

use super::*;
use crate::push::egress::EgressPolicy::Internal;

/// A pusher's client to what is on this machine.
fn local_client(target: &Target) -> (Pusher, TargetClient) {
    let pusher = pusher(Internal, &[], &always(Ipv4Addr::LOCALHOST));
    let client = client(&pusher, &target.url());
    (pusher, client)
}

/// A target that answers each request with this, over as many connections as it is asked over.
async fn answering(answer: &'static str) -> Target {
    Target::serving(async move |mut visit| {
        while visit.request().await {
            visit.say(answer).await;
        }
    })
    .await
}

/// Waits for this to hold.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(Duration::from_secs(30), waiting).await.is_ok(), "{what}");
}

/// Returns when what has happened to connections before is known to this process: what comes later is.
async fn look_around() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut from = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut to, _) = listener.accept().await.unwrap();
    from.write_all(b"!").await.unwrap();
    to.read_u8().await.unwrap();
}

fn said(outcome: &PushOutcome) -> (Option<u16>, &str) {
    (outcome.code(), outcome.said().unwrap_or_default())
}

#[tokio::test]
async fn requests_one_after_the_other_share_a_connection() {
    for answer in [
        OK,
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nwait",
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ] {
        let target = answering(answer).await;
        let (_pusher, client) = local_client(&target);
        for _ in 0..50 {
            let outcome = client.push(request()).await;
            assert!(matches!(outcome.code(), Some(200 | 204 | 503)), "{answer}: {outcome}");
        }
        assert_eq!((target.connections(), target.requests()), (1, 50), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_an_answer() {
    for answer in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nok",
        "HTTP/1.0 200 OK\r\n\r\nok",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        // It breaks off in the middle: but the verdict is known by then.
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok",
    ] {
        let target = Target::serving(async move |mut visit| {
            assert!(visit.request().await);
            visit.say(answer).await;
        })
        .await;
        let (_pusher, client) = local_client(&target);
        for _ in 0..3 {
            assert_eq!(said(&client.push(request()).await), (Some(200), "ok"), "{answer}");
        }
        assert_eq!((target.connections(), target.requests()), (3, 3), "{answer}");
    }
}

#[tokio::test]
async fn a_kept_connection_that_the_target_has_closed_is_no_failed_attempt() {
    let may_close = Arc::new(Semaphore::new(0));
    let (closed, mut has_closed) = mpsc::channel(1);
    let may = may_close.clone();
    let target = Target::serving(move |mut visit| {
        let (may_close, closed) = (may.clone(), closed.clone());
        async move {
            assert!(visit.request().await);
            visit.say(OK).await;
            may_close.acquire().await.unwrap().forget();
            // Some say something before, which is no answer to anything.
            if visit.number % 2 == 0 {
                visit.say("HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n").await;
            }
            drop(visit);
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let (_pusher, client) = local_client(&target);
    for pushed in 1..=6 {
        assert_eq!(client.push(request()).await.code(), Some(200));
        may_close.add_permits(1);
        has_closed.recv().await.unwrap();
        look_around().await;
        assert_eq!((target.connections(), target.requests()), (pushed, pushed));
    }
}

#[tokio::test]
async fn a_request_that_was_written_is_not_sent_again_by_itself() {
    let target = Target::serving(async |mut visit| {
        assert!(visit.request().await);
        visit.say(OK).await;
        visit.request().await;
    })
    .await;
    let (_pusher, client) = local_client(&target);
    assert_eq!(client.push(request()).await.code(), Some(200));
    let outcome = client.push(request()).await;
    assert_eq!(outcome.to_string(), "broke off: connection closed before message completed");
    assert_eq!((target.connections(), target.requests()), (1, 2));
    assert_eq!(client.push(request()).await.code(), Some(200));
    assert_eq!((target.connections(), target.requests()), (2, 3));
}

/// Counts how often it wakes a task.
struct Counting(Waker, Arc<AtomicUsize>);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.wake_by_ref();
    }
}

#[tokio::test]
async fn sending_over_a_kept_connection_does_not_wake_the_task_that_sends() {
    let target = answering(OK).await;
    let (_pusher, client) = local_client(&target);
    let (mut first, woken) = (pin!(client.push(request())), Arc::new(AtomicUsize::new(0)));
    let outcome = poll_fn(|cx| {
        let counting = Waker::from(Arc::new(Counting(cx.waker().clone(), woken.clone())));
        first.as_mut().poll(&mut Context::from_waker(&counting))
    });
    assert_eq!(outcome.await.code(), Some(200));
    let before = woken.load(Ordering::SeqCst);
    let mut second = pin!(client.push(request()));
    assert!(second.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(woken.load(Ordering::SeqCst), before);
    assert_eq!(second.await.code(), Some(200));
    assert_eq!((target.connections(), target.requests()), (1, 2));
}

#[tokio::test]
async fn why_there_was_no_answer_is_told_in_few_words() {
    let hangs_up = Target::serving(async |_| {}).await;
    let (_pusher, client) = local_client(&hangs_up);
    let outcome = client.push(request()).await.to_string();
    assert!(outcome.starts_with("broke off: "), "{outcome}");
    let babbles = answering("hello\r\n\r\n").await;
    let (pusher, client) = local_client(&babbles);
    assert_eq!(client.push(request()).await.to_string(), "broke off: invalid HTTP version parsed");
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let nobody = push(&pusher, &format!("http://user:secret@127.0.0.1:{port}/?token=secret")).await.to_string();
    assert!(nobody.starts_with("could not connect: Connection refused"), "{nobody}");
}

#[tokio::test]
async fn a_target_that_does_not_answer_is_given_as_long_as_was_asked_for() {
    let hangs = Target::serving(async |mut visit| visit.is_left().await).await;
    let pusher = pusher(Internal, &[], &always(Ipv4Addr::LOCALHOST));
    let mut subscription = Subscription::new(TargetUrl::parse(&hangs.url()).unwrap());
    subscription.delivery.timeout_ms = Some(50);
    let signer = Signer::open(&subscription.url.subscription_id(), &subscription, None);
    let outcome = pusher.to(&subscription, signer).push(request()).await;
    assert_eq!(outcome, PushOutcome::Failed("timed out: operation timed out".to_owned()));
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_left() {
    for (beginning, goes_on) in
        [("HTTP/1.1 200 OK\r\n\r\n", true), ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", false)]
    {
        let (left, mut was_left) = mpsc::channel(1);
        let target = Target::serving(move |mut visit| {
            let left = left.clone();
            async move {
                assert!(visit.request().await);
                visit.say(beginning).await;
                while goes_on && visit.connection.write_all(&[b'x'; 1000]).await.is_ok() {}
                visit.is_left().await;
                left.send(()).await.unwrap();
            }
        })
        .await;
        let (_pusher, client) = local_client(&target);
        let outcome = client.push(request()).await;
        let body = if goes_on { "x".repeat(MAX_KEPT_BYTES) } else { "ok".to_owned() };
        assert_eq!(said(&outcome), (Some(200), body.as_str()));
        was_left.recv().await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_has_been_read() {
    let target = Target::serving(async |mut visit| {
        let mut head = Vec::new();
        while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            assert!(visit.connection.read_buf(&mut head).await.unwrap() > 0);
        }
        visit.say("HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n").await;
        visit.is_left().await;
    })
    .await;
    let (_pusher, client) = local_client(&target);
    for pushed in 1..=2 {
        let large = DeliveryRequest { body: vec![b'x'; 32 * 1024 * 1024].into(), ..request() };
        assert_eq!(client.push(large).await.code(), Some(413));
        assert_eq!(target.connections(), pushed, "what was not written to its end is not used again");
    }
}

#[tokio::test]
async fn requests_at_a_time_have_a_connection_each_and_leave_it_to_the_next() {
    let together = Arc::new(Barrier::new(20));
    let target = Target::serving(move |mut visit| {
        let together = together.clone();
        async move {
            while visit.request().await {
                together.wait().await;
                visit.say(OK).await;
            }
        }
    })
    .await;
    let (_pusher, client) = local_client(&target);
    for round in 1..=3 {
        let outcomes = join_all((0..20).map(|_| client.push(request()))).await;
        assert!(outcomes.iter().all(|outcome| outcome.code() == Some(200)));
        assert_eq!((target.connections(), target.requests()), (20, 20 * round));
    }
}

#[tokio::test]
async fn a_connection_that_nobody_uses_is_closed_before_targets_do_it() {
    let left = Arc::new(AtomicUsize::new(0));
    let count = left.clone();
    let target = Target::serving(move |mut visit| {
        let left = count.clone();
        async move {
            while visit.request().await {
                visit.say(OK).await;
            }
            left.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let (pusher, client) = local_client(&target);
    let closing_after = |seconds| pusher.0.lists.close_old(Instant::now() + Duration::from_secs(seconds));
    for round in 1..=3 {
        assert_eq!(client.push(request()).await.code(), Some(200));
        closing_after(3);
        assert_eq!(client.push(request()).await.code(), Some(200));
        assert_eq!(target.connections(), round, "one that was used a moment ago is kept");
        closing_after(5);
        until("the connection is closed", || left.load(Ordering::SeqCst) == round).await;
    }
    // Nor is one used that has not been closed in time.
    assert_eq!(client.push(request()).await.code(), Some(200));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(5)).await;
    tokio::time::resume();
    assert_eq!(client.push(request()).await.code(), Some(200));
    assert_eq!(target.connections(), 5);
    drop(client);
    until("nothing is left of a client", || left.load(Ordering::SeqCst) == 5).await;
}

#[tokio::test]
async fn a_request_says_what_the_url_says() {
    let target = answering(OK).await;
    let pusher = pusher(Internal, &[], &always(Ipv4Addr::LOCALHOST));
    let headers =
        HeaderMap::from_iter([("ce-id", "x")].map(|(name, value)| delivery_request::pair(name, value).unwrap()));
    for (host, path, body) in [
        ("us%65r:p%40ss@name.test", "/a%20b/ü?q=1&r={x}", "{}"),
        ("127.0.0.1", "?q", ""),
        (":only@127.0.0.1", "", "{}"),
        ("Name.Test", "/", "{}"),
    ] {
        let request = DeliveryRequest { id: Id::Text(String::new()), headers: headers.clone(), body: body.into() };
        let url = format!("http://{host}:{}{path}", target.port);
        assert_eq!(client(&pusher, &url).push(request).await.code(), Some(200), "{url}");
    }
    let agent = format!("mer/{}", env!("CARGO_PKG_VERSION"));
    let request = |path: &str, host: &str, authorization: &str, body: &str| {
        let (port, length) = (target.port, body.len());
        format!(
            "POST {path} HTTP/1.1\r\nce-id: x\r\naccept: */*\r\nuser-agent: {agent}\r\nhost: {host}:{port}\r\n\
             {authorization}content-length: {length}\r\n\r\n{body}"
        )
    };
    let seen = target.requests.lock().unwrap().clone();
    assert_eq!(
        seen,
        [
            request("/a%20b/%C3%BC?q=1&r={x}", "name.test", "authorization: Basic dXNlcjpwQHNz\r\n", "{}"),
            request("/?q", "127.0.0.1", "", ""),
            request("/", "127.0.0.1", "authorization: Basic Om9ubHk=\r\n", "{}"),
            request("/", "name.test", "", "{}"),
        ]
    );
}

#[test]
fn the_port_of_the_scheme_is_not_named() {
    let to = |url: &str| Destination::of(&Url::parse(url).unwrap()).unwrap();
    for (url, host, port) in [
        ("http://name.test/", "name.test", 80),
        ("http://name.test:80/", "name.test", 80),
        ("https://name.test/", "name.test", 443),
        ("https://[::1]:444/", "[::1]:444", 444),
        ("http://ü.test:443/", "xn--tda.test:443", 443),
    ] {
        let to = to(url);
        let named = to.headers.iter().find(|(name, _)| name == HOST).unwrap();
        assert_eq!((named.1.to_str().unwrap(), to.endpoint.port), (host, port));
    }
}

#[tokio::test]
async fn a_status_counts_whatever_the_head_behind_it_looks_like() {
    let large: &'static str = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(300_000)).leak();
    let many: &'static str = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(150)).leak();
    let retries: &'static str =
        "HTTP/1.1 503 Sorry\r\nset-cookie: a\x01b\r\nRetry-After : 7\r\ncontent-length: 0\r\n\r\n";
    for (answer, code, is_read) in [
        ("HTTP/1.1 200 OK\r\nx: folded\r\n  line\r\ncontent-length: 0\r\n\r\n", 200, true),
        ("HTTP/1.1 204 OK\r\nx : y\r\n\r\n", 204, true),
        ("HTTP/1.1 200 OK\r\n<b>Warning</b>: bad.php\r\n\r\ncontent-length: 0\r\n\r\n", 200, true),
        ("HTTP/1.1 200 OK\r\nWarning\r\ncontent-length: 0\r\n\r\n", 200, true),
        (retries, 503, true),
        (many, 200, false),
        (large, 200, false),
        ("HTTP/1.1 410 Gone\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx", 410, false),
    ] {
        let target = answering(answer).await;
        let (_pusher, client) = local_client(&target);
        for _ in 0..2 {
            let outcome = client.push(request()).await;
            assert_eq!(outcome.code(), Some(code), "{answer:.60} {outcome:?}");
            assert_eq!(outcome.said().unwrap_or_default().contains("cannot be read"), !is_read, "{answer:.60}");
            if let PushOutcome::Answered(answer) = outcome {
                assert_eq!(answer.retry_after.is_some(), code == 503);
            }
        }
    }
    for nonsense in ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 2xx OK\r\n\r\n"] {
        let target = answering(nonsense).await;
        let (_pusher, client) = local_client(&target);
        assert_eq!(client.push(request()).await.code(), None, "{nonsense}");
    }
}

#[tokio::test]
async fn what_has_come_is_acknowledged_at_once_where_the_body_has_not() {
    // Nagle's algorithm keeps the body back until the head is acknowledged.
    let target = Target::serving(async |mut visit| {
        while visit.request().await {
            visit.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await;
            visit.say("ok").await;
        }
    })
    .await;
    let (_pusher, client) = local_client(&target);
    for _ in 0..20 {
        assert_eq!(said(&client.push(request()).await), (Some(200), "ok"));
    }
    assert_eq!(target.connections(), 1);
}
