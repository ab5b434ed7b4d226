// Sends spans, points and lines with the published SDK of OpenTelemetry for Java, and prints as JSON what it sent.
//
// Usage: java -cp 'lib/*' Sender.java http|grpc ENDPOINT SERVICE

import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.logs.Logger;
import io.opentelemetry.api.logs.Severity;
import io.opentelemetry.api.metrics.Meter;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Context;
import io.opentelemetry.exporter.otlp.http.logs.OtlpHttpLogRecordExporter;
import io.opentelemetry.exporter.otlp.http.metrics.OtlpHttpMetricExporter;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.exporter.otlp.logs.OtlpGrpcLogRecordExporter;
import io.opentelemetry.exporter.otlp.metrics.OtlpGrpcMetricExporter;
import io.opentelemetry.exporter.otlp.trace.OtlpGrpcSpanExporter;
import io.opentelemetry.sdk.common.CompletableResultCode;
import io.opentelemetry.sdk.logs.SdkLoggerProvider;
import io.opentelemetry.sdk.logs.export.BatchLogRecordProcessor;
import io.opentelemetry.sdk.logs.export.LogRecordExporter;
import io.opentelemetry.sdk.metrics.Aggregation;
import io.opentelemetry.sdk.metrics.InstrumentSelector;
import io.opentelemetry.sdk.metrics.SdkMeterProvider;
import io.opentelemetry.sdk.metrics.View;
import io.opentelemetry.sdk.metrics.export.MetricExporter;
import io.opentelemetry.sdk.metrics.export.PeriodicMetricReader;
import io.opentelemetry.sdk.resources.Resource;
import io.opentelemetry.sdk.trace.ReadableSpan;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.data.EventData;
import io.opentelemetry.sdk.trace.data.LinkData;
import io.opentelemetry.sdk.trace.data.SpanData;
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor;
import io.opentelemetry.sdk.trace.export.SpanExporter;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

public class Sender {
  static final int SPANS = 200;
  static final int LINES = 100;

  public static void main(String[] arguments) {
    boolean http = arguments[0].equals("http");
    String endpoint = arguments[1];
    Resource about =
        Resource.create(
            Attributes.builder().put("service.name", arguments[2]).put("host.name", "h").put("ports", 1, 2).build());
    SpanExporter spans =
        http
            ? OtlpHttpSpanExporter.builder().setEndpoint(endpoint + "/v1/traces").setCompression("gzip").build()
            : OtlpGrpcSpanExporter.builder().setEndpoint(endpoint).setCompression("gzip").build();
    MetricExporter metrics =
        http
            ? OtlpHttpMetricExporter.builder().setEndpoint(endpoint + "/v1/metrics").build()
            : OtlpGrpcMetricExporter.builder().setEndpoint(endpoint).build();
    LogRecordExporter logs =
        http
            ? OtlpHttpLogRecordExporter.builder().setEndpoint(endpoint + "/v1/logs").build()
            : OtlpGrpcLogRecordExporter.builder().setEndpoint(endpoint).build();
    Map<String, Object> sent = new LinkedHashMap<>();
    sent.put("spans", sendSpans(about, spans));
    sent.put("logs", sendLines(about, logs));
    sent.put("metrics", sendPoints(about, metrics));
    new PrintStream(System.out, true, StandardCharsets.UTF_8).println(json(sent));
  }

  static List<Object> sendSpans(Resource about, SpanExporter exporter) {
    SdkTracerProvider provider =
        SdkTracerProvider.builder()
            .setResource(about)
            .addSpanProcessor(BatchSpanProcessor.builder(exporter).setMaxExportBatchSize(64).build())
            .build();
    Tracer tracer = provider.tracerBuilder("shop").setInstrumentationVersion("0.9").build();
    List<Span> made = new ArrayList<>();
    Span root = tracer.spanBuilder("root").setSpanKind(SpanKind.SERVER).startSpan();
    for (int i = 0; i < SPANS; i++) {
      Span span =
          tracer
              .spanBuilder("child")
              .setParent(Context.root().with(root))
              .setSpanKind(SpanKind.CLIENT)
              .setAttribute("i", (long) i)
              .setAttribute("f", i + 0.25)
              .setAttribute(AttributeKey.stringArrayKey("l"), List.of("ü", "😀"))
              .addLink(root.getSpanContext(), Attributes.builder().put("why", (long) i).build())
              .startSpan();
      span.addEvent("begun", Attributes.builder().put("b", true).build());
      if (i % 5 == 0) {
        span.setStatus(StatusCode.ERROR, "boom");
      }
      span.end();
      made.add(span);
    }
    root.end();
    made.add(root);
    settle(provider.shutdown());
    return made.stream().map(span -> described(((ReadableSpan) span).toSpanData())).collect(Collectors.toList());
  }

  static Object described(SpanData span) {
    Map<String, Object> row = new LinkedHashMap<>();
    row.put("trace_id", span.getTraceId());
    row.put("span_id", span.getSpanId());
    row.put("parent_span_id", span.getParentSpanContext().isValid() ? span.getParentSpanId() : null);
    row.put("start_time", span.getStartEpochNanos());
    row.put("end_time", span.getEndEpochNanos());
    row.put("duration", span.getEndEpochNanos() - span.getStartEpochNanos());
    row.put("name", span.getName());
    row.put("kind", span.getKind().name());
    row.put("status", span.getStatus().getStatusCode().name());
    row.put("status_message", span.getStatus().getDescription().isEmpty() ? null : span.getStatus().getDescription());
    Map<String, Object> properties = plain(span.getAttributes());
    properties.put("otel.scope.name", "shop");
    properties.put("otel.scope.version", "0.9");
    row.put("properties", properties);
    List<Object> events = new ArrayList<>();
    for (EventData event : span.getEvents()) {
      events.add(
          Map.of("time", event.getEpochNanos(), "name", event.getName(), "attributes", plain(event.getAttributes())));
    }
    row.put("events", events);
    List<Object> links = new ArrayList<>();
    for (LinkData link : span.getLinks()) {
      links.add(
          Map.of(
              "trace_id", link.getSpanContext().getTraceId(),
              "span_id", link.getSpanContext().getSpanId(),
              "attributes", plain(link.getAttributes())));
    }
    row.put("links", links);
    return row;
  }

  static List<Object> sendLines(Resource about, LogRecordExporter exporter) {
    SdkLoggerProvider provider =
        SdkLoggerProvider.builder()
            .setResource(about)
            .addLogRecordProcessor(BatchLogRecordProcessor.builder(exporter).setMaxExportBatchSize(64).build())
            .build();
    Logger logger = provider.get("shop.cart");
    Severity[] severities = {Severity.TRACE, Severity.DEBUG, Severity.INFO, Severity.WARN, Severity.ERROR, Severity.FATAL};
    List<Object> made = new ArrayList<>();
    for (int i = 0; i < LINES; i++) {
      String message = "line " + i + " 😀";
      logger
          .logRecordBuilder()
          .setSeverity(severities[i % 6])
          .setBody(message)
          .setAttribute(AttributeKey.longKey("order"), (long) i)
          .setAttribute(AttributeKey.booleanKey("vip"), i % 2 == 0)
          .emit();
      made.add(Map.of("target", "shop.cart", "level", 6 - i % 6, "msg", message, "order", i, "vip", i % 2 == 0));
    }
    settle(provider.shutdown());
    return made;
  }

  static List<Object> sendPoints(Resource about, MetricExporter exporter) {
    SdkMeterProvider provider =
        SdkMeterProvider.builder()
            .setResource(about)
            .registerMetricReader(PeriodicMetricReader.builder(exporter).setInterval(Duration.ofHours(1)).build())
            .registerView(
                InstrumentSelector.builder().setName("wide").build(),
                View.builder().setAggregation(Aggregation.base2ExponentialBucketHistogram()).build())
            .build();
    Meter meter = provider.get("shop.meter");
    meter.counterBuilder("orders").setUnit("1").build().add(7, Attributes.builder().put("country", "ca").build());
    meter.upDownCounterBuilder("queue").setUnit("items").build().add(-3);
    meter.gaugeBuilder("temperature").setUnit("Cel").build().set(21.5);
    meter.histogramBuilder("narrow").build().record(0.5);
    meter.histogramBuilder("wide").build().record(1e9);
    settle(provider.shutdown());
    return List.of(
        point("orders", "1", 7.0, sum(true, Map.of("country", "ca"))),
        point("queue", "items", -3.0, sum(false, Map.of())),
        point("temperature", "Cel", 21.5, Map.of("otel.metric.kind", "gauge")));
  }

  static Object point(String name, String unit, double value, Map<String, Object> properties) {
    return Map.of("target", "shop.meter", "name", name, "unit", unit, "value", value, "properties", properties);
  }

  static Map<String, Object> sum(boolean monotonic, Map<String, Object> attributes) {
    Map<String, Object> properties = new LinkedHashMap<>(attributes);
    properties.put("otel.metric.kind", "sum");
    properties.put("otel.metric.aggregation_temporality", 2);
    properties.put("otel.metric.is_monotonic", monotonic);
    return properties;
  }

  static void settle(CompletableResultCode result) {
    if (!result.join(30, TimeUnit.SECONDS).isSuccess()) {
      System.err.println("it was not taken");
      System.exit(1);
    }
  }

  static Map<String, Object> plain(Attributes attributes) {
    Map<String, Object> made = new LinkedHashMap<>();
    attributes.forEach((key, value) -> made.put(key.getKey(), value));
    return made;
  }

  static String json(Object value) {
    if (value instanceof Map<?, ?> map) {
      return map.entrySet().stream()
          .map(entry -> json(entry.getKey()) + ":" + json(entry.getValue()))
          .collect(Collectors.joining(",", "{", "}"));
    }
    if (value instanceof List<?> list) {
      return list.stream().map(Sender::json).collect(Collectors.joining(",", "[", "]"));
    }
    return value instanceof String text ? '"' + text + '"' : String.valueOf(value);  // no text here has a quote
  }
}
