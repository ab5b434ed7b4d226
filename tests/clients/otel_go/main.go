// Sends spans, points and lines with the published SDK of OpenTelemetry for Go, and prints as JSON what it sent.
//
// Usage: sender http|grpc HOST:PORT SERVICE
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/metric"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const spans, lines = 200, 100

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

func main() {
	ctx := context.Background()
	protocol, endpoint, service := os.Args[1], os.Args[2], os.Args[3]
	about := resource.NewSchemaless(attribute.String("service.name", service), attribute.String("host.name", "h"))
	var traces *otlptrace.Exporter
	var metrics sdkmetric.Exporter
	var logs sdklog.Exporter
	if protocol == "http" {
		traces = must(otlptracehttp.New(ctx, otlptracehttp.WithEndpoint(endpoint), otlptracehttp.WithInsecure(),
			otlptracehttp.WithCompression(otlptracehttp.GzipCompression)))
		metrics = must(otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpoint(endpoint), otlpmetrichttp.WithInsecure()))
		logs = must(otlploghttp.New(ctx, otlploghttp.WithEndpoint(endpoint), otlploghttp.WithInsecure()))
	} else {
		traces = must(otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(endpoint), otlptracegrpc.WithInsecure(),
			otlptracegrpc.WithCompressor("gzip")))
		metrics = must(otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithEndpoint(endpoint), otlpmetricgrpc.WithInsecure()))
		logs = must(otlploggrpc.New(ctx, otlploggrpc.WithEndpoint(endpoint), otlploggrpc.WithInsecure()))
	}
	sent := map[string]any{
		"spans":   sendSpans(ctx, about, traces),
		"metrics": sendPoints(ctx, about, metrics),
		"logs":    sendLines(ctx, about, logs),
	}
	must(0, json.NewEncoder(os.Stdout).Encode(sent))
}

func sendSpans(ctx context.Context, about *resource.Resource, exporter sdktrace.SpanExporter) []map[string]any {
	provider := sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithBatcher(exporter))
	tracer := provider.Tracer("shop", trace.WithInstrumentationVersion("0.9"))
	var made []map[string]any
	rootCtx, root := tracer.Start(ctx, "root", trace.WithSpanKind(trace.SpanKindServer))
	for i := range spans {
		_, span := tracer.Start(rootCtx, "child", trace.WithSpanKind(trace.SpanKindClient),
			trace.WithAttributes(attribute.Int("i", i), attribute.Float64("f", float64(i)+0.25), attribute.StringSlice("l", []string{"ü"})),
			trace.WithLinks(trace.Link{SpanContext: root.SpanContext()}))
		span.AddEvent("begun", trace.WithAttributes(attribute.Bool("b", true)))
		if i%5 == 0 {
			span.SetStatus(codes.Error, "boom")
		}
		span.End()
		made = append(made, described(span.(sdktrace.ReadOnlySpan), i))
	}
	root.End()
	must(0, provider.Shutdown(ctx))
	whole := root.(sdktrace.ReadOnlySpan)
	start, end := whole.StartTime().UnixNano(), whole.EndTime().UnixNano()
	return append(made, map[string]any{
		"trace_id": root.SpanContext().TraceID().String(), "span_id": root.SpanContext().SpanID().String(),
		"parent_span_id": nil, "start_time": start, "end_time": end, "duration": end - start, "name": "root",
		"kind": "SERVER", "status": "UNSET", "status_message": nil,
		"properties": map[string]any{"otel.scope.name": "shop", "otel.scope.version": "0.9"},
		"events":     []any{}, "links": []any{},
	})
}

func described(span sdktrace.ReadOnlySpan, i int) map[string]any {
	start, end := span.StartTime().UnixNano(), span.EndTime().UnixNano()
	event, link := span.Events()[0], span.Links()[0]
	status, message := "UNSET", any(nil)
	if span.Status().Code == codes.Error {
		status, message = "ERROR", span.Status().Description
	}
	return map[string]any{
		"trace_id": span.SpanContext().TraceID().String(), "span_id": span.SpanContext().SpanID().String(),
		"parent_span_id": span.Parent().SpanID().String(), "start_time": start, "end_time": end, "duration": end - start,
		"name": span.Name(), "kind": "CLIENT", "status": status, "status_message": message,
		"properties": map[string]any{"i": i, "f": float64(i) + 0.25, "l": []string{"ü"}, "otel.scope.name": "shop", "otel.scope.version": "0.9"},
		"events":     []any{map[string]any{"time": event.Time.UnixNano(), "name": "begun", "attributes": map[string]any{"b": true}}},
		"links": []any{map[string]any{"trace_id": link.SpanContext.TraceID().String(),
			"span_id": link.SpanContext.SpanID().String(), "attributes": map[string]any{}}},
	}
}

func sendPoints(ctx context.Context, about *resource.Resource, exporter sdkmetric.Exporter) []map[string]any {
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithResource(about), sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)))
	meter := provider.Meter("shop.meter")
	orders := must(meter.Int64Counter("orders", metric.WithUnit("1")))
	orders.Add(ctx, 7, metric.WithAttributes(attribute.String("country", "ca")))
	heat := must(meter.Float64Gauge("temperature", metric.WithUnit("Cel")))
	heat.Record(ctx, 21.5)
	must(meter.Float64Histogram("wait")).Record(ctx, 0.5)
	must(0, provider.Shutdown(ctx))
	sum := map[string]any{"country": "ca", "otel.metric.kind": "sum", "otel.metric.aggregation_temporality": 2, "otel.metric.is_monotonic": true}
	return []map[string]any{
		{"target": "shop.meter", "name": "orders", "unit": "1", "value": 7.0, "properties": sum},
		{"target": "shop.meter", "name": "temperature", "unit": "Cel", "value": 21.5, "properties": map[string]any{"otel.metric.kind": "gauge"}},
	}
}

func sendLines(ctx context.Context, about *resource.Resource, exporter sdklog.Exporter) []map[string]any {
	provider := sdklog.NewLoggerProvider(sdklog.WithResource(about), sdklog.WithProcessor(sdklog.NewBatchProcessor(exporter)))
	logger := provider.Logger("shop.cart")
	var made []map[string]any
	for i := range lines {
		var record log.Record
		record.SetSeverity(log.SeverityWarn)
		record.SetBody(attribute.StringValue(fmt.Sprintf("line %d 😀", i)))
		record.AddAttributes(attribute.Int("order", i), attribute.Bool("vip", i%2 == 0))
		logger.Emit(ctx, record)
		made = append(made, map[string]any{"target": "shop.cart", "level": 3, "msg": fmt.Sprintf("line %d 😀", i), "order": i, "vip": i%2 == 0})
	}
	must(0, provider.Shutdown(ctx))
	return made
}
