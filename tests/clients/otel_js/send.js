// Sends spans, points and lines with the published SDK of OpenTelemetry for JavaScript, which writes JSON, and prints as JSON
// what it sent. Usage: node send.js ENDPOINT SERVICE

import { SpanKind, SpanStatusCode, context, trace } from "@opentelemetry/api";
import { SeverityNumber } from "@opentelemetry/api-logs";
import { OTLPLogExporter } from "@opentelemetry/exporter-logs-otlp-http";
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-http";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchLogRecordProcessor, LoggerProvider } from "@opentelemetry/sdk-logs";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";

const [endpoint, service] = process.argv.slice(2);
const resource = resourceFromAttributes({ "service.name": service, "host.name": "h" });
const SPANS = 150;
const LINES = 100;

async function sendSpans() {
  const exporter = new OTLPTraceExporter({ url: `${endpoint}/v1/traces`, compression: "gzip" });
  const provider = new BasicTracerProvider({ resource, spanProcessors: [new BatchSpanProcessor(exporter)] });
  const tracer = provider.getTracer("shop", "0.9");
  const root = tracer.startSpan("root", { kind: SpanKind.SERVER });
  const inside = trace.setSpan(context.active(), root);
  const made = [];
  for (let i = 0; i < SPANS; i++) {
    const attributes = { i, f: i + 0.25, b: true, s: "ü", list: ["a", "b"] };
    const links = [{ context: root.spanContext(), attributes: { why: i } }];
    const span = tracer.startSpan("child", { kind: SpanKind.CLIENT, attributes, links }, inside);
    span.addEvent("begun", { k: i });
    if (i % 5 === 0) span.setStatus({ code: SpanStatusCode.ERROR, message: "boom" });
    span.end();
    made.push({
      trace_id: span.spanContext().traceId,
      span_id: span.spanContext().spanId,
      parent_span_id: root.spanContext().spanId,
      name: "child",
      kind: "CLIENT",
      status: i % 5 === 0 ? "ERROR" : "UNSET",
      status_message: i % 5 === 0 ? "boom" : null,
      properties: { ...attributes, "otel.scope.name": "shop", "otel.scope.version": "0.9" },
      links: [{ trace_id: root.spanContext().traceId, span_id: root.spanContext().spanId, attributes: { why: i } }],
    });
  }
  root.end();
  made.push({
    trace_id: root.spanContext().traceId,
    span_id: root.spanContext().spanId,
    parent_span_id: null,
    name: "root",
    kind: "SERVER",
    status: "UNSET",
    status_message: null,
    properties: { "otel.scope.name": "shop", "otel.scope.version": "0.9" },
    links: [],
  });
  await provider.shutdown();
  return made;
}

async function sendPoints() {
  const exporter = new OTLPMetricExporter({ url: `${endpoint}/v1/metrics` });
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
  const provider = new MeterProvider({ resource, readers: [reader] });
  const meter = provider.getMeter("shop.meter");
  meter.createCounter("orders", { unit: "1" }).add(7, { country: "ca" });
  meter.createGauge("temperature", { unit: "Cel" }).record(21.5, { room: "é" });
  meter.createHistogram("wait").record(0.5);
  await provider.shutdown();
  const sum = { "otel.metric.kind": "sum", "otel.metric.aggregation_temporality": 2, "otel.metric.is_monotonic": true };
  return [
    { target: "shop.meter", name: "orders", unit: "1", value: 7, properties: { ...sum, country: "ca" } },
    {
      target: "shop.meter",
      name: "temperature",
      unit: "Cel",
      value: 21.5,
      properties: { "otel.metric.kind": "gauge", room: "é" },
    },
  ];
}

async function sendLines() {
  const exporter = new OTLPLogExporter({ url: `${endpoint}/v1/logs` });
  const provider = new LoggerProvider({ resource, processors: [new BatchLogRecordProcessor({ exporter })] });
  const logger = provider.getLogger("shop.cart");
  const made = [];
  for (let i = 0; i < LINES; i++) {
    const attributes = { order: i, vip: i % 2 === 0 };
    logger.emit({ severityNumber: SeverityNumber.WARN, body: `line ${i} 😀`, attributes });
    made.push({ target: "shop.cart", level: 3, msg: `line ${i} 😀`, ...attributes });
  }
  await provider.shutdown();
  return made;
}

console.log(JSON.stringify({ spans: await sendSpans(), metrics: await sendPoints(), logs: await sendLines() }));
