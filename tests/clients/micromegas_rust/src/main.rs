// Sends lines, metrics, spans and an image with the published crates of micromegas, and prints the id of its process.
//
// Usage: sender URL NUMBER

use micromegas_telemetry_sink::TelemetryGuardBuilder;
use micromegas_tracing::dispatch;
use micromegas_tracing::prelude::*;
use std::time::Duration;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let number: u64 = arguments[2].parse()?;
    let guard = TelemetryGuardBuilder::default()
        .with_telemetry_sink_url(arguments[1].clone())
        .with_max_level_override(LevelFilter::Trace)
        .with_telemetry_sink_max_level(LevelFilter::Trace)
        .with_local_sink_enabled(false)
        .with_system_metrics_enabled(false)
        .with_cpu_tracing_enabled(true)
        .with_process_property(String::from("flavour"), String::from("ü😀"))
        .build()?;
    lines(number);
    metrics(number);
    std::thread::spawn(move || {
        dispatch::init_thread_stream();
        for i in 0..number {
            outer(i);
        }
        dispatch::flush_thread_buffer();
    })
    .join()
    .expect("the thread with the spans ended well");
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .on_thread_start(dispatch::init_thread_stream)
        .on_thread_stop(dispatch::unregister_thread_stream)
        .build()?
        .block_on(tasks(number));
    dispatch::send_image("dot", "png", vec![0x89, b'P', b'N', b'G', 0xff]);
    dispatch::flush_image_buffer();
    println!("{}", dispatch::process_id().expect("telemetry is on"));
    drop(guard); // sends what is left
    Ok(())
}

fn lines(number: u64) {
    for i in 0..number {
        match i % 6 {
            0 => fatal!(target: "shop", "line {i} 😀"),
            1 => error!(target: "shop", "line {i} 😀"),
            2 => warn!(target: "shop", order = %i, kind = "plain", "line {i} 😀"),
            3 => info!(target: "shop", "line {i} 😀"),
            4 => debug!(target: "shop", "line {i} 😀"),
            _ => trace!(target: "shop", "line {i} 😀"),
        }
    }
    info!(target: "shop", "a constant");
}

fn metrics(number: u64) {
    for i in 0..number {
        imetric!(target: "shop", "queue", "items", i);
        fmetric!(target: "shop", "wait", "ms", country = "ca", i as f64 + 0.25);
    }
    imetric!(target: "shop", "most", "1", u64::MAX);
    imetric_dyn!(target: "shop", format!("at run time"), "1", 1);
}

#[span_fn]
fn outer(i: u64) {
    {
        span_scope!("inner");
        {
            span_scope_named!(if i % 2 == 0 { "even" } else { "odd" });
        }
    }
    let name = format!("of {i}");
    span_scope_named_dyn!(&name);
    let mut told = span_scope!(name = "told", region = "eu");
    told.set_property("rows", i);
    drop(told);
    let _named = span_scope_named!(name = "told by name", region = "eu");
}

async fn tasks(number: u64) {
    let mut handles = Vec::new();
    for i in 0..number {
        handles.push(tokio::spawn(span_async_named!("task", async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            step(i).await;
            span_async_named_dyn!(format!("wait {i}"), async { i }, |i, span| {
                span.set_property("i", *i);
            })
            .await;
        })));
    }
    for handle in handles {
        handle.await.expect("a task ends well");
    }
}

#[span_fn]
async fn step(_i: u64) {
    tokio::time::sleep(Duration::from_millis(1)).await;
}
