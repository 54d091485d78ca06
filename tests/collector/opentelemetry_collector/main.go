// SPDX-License-Identifier: Apache-2.0

// An OpenTelemetry Collector with the OTLP receiver, and an exporter that appends what it gets to files, one request a
// line. `temporary` and `permanent` are numbers of requests that it refuses.
package main

import (
	"context"
	"errors"
	"log"
	"os"
	"sync/atomic"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

type config struct {
	Folder    string `mapstructure:"folder"`
	Temporary int64  `mapstructure:"temporary"`
	Permanent int64  `mapstructure:"permanent"`
}

var requests atomic.Int64

func (c *config) append(file string, line []byte, err error) error {
	if err != nil {
		return consumererror.NewPermanent(err)
	}
	if request := requests.Add(1); request <= c.Temporary {
		return errors.New("not now")
	} else if request <= c.Temporary+c.Permanent {
		return consumererror.NewPermanent(errors.New("not this"))
	}
	out, err := os.OpenFile(c.Folder+"/"+file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = out.Write(append(line, '\n'))
	return err
}

type traces struct {
	component.StartFunc
	component.ShutdownFunc
	consumer.Traces
}

type logs struct {
	component.StartFunc
	component.ShutdownFunc
	consumer.Logs
}

type metrics struct {
	component.StartFunc
	component.ShutdownFunc
	consumer.Metrics
}

func newTraces(_ context.Context, _ exporter.Settings, c component.Config) (exporter.Traces, error) {
	consume, err := consumer.NewTraces(func(_ context.Context, data ptrace.Traces) error {
		line, err := (&ptrace.JSONMarshaler{}).MarshalTraces(data)
		return c.(*config).append("traces.jsonl", line, err)
	})
	return traces{Traces: consume}, err
}

func newLogs(_ context.Context, _ exporter.Settings, c component.Config) (exporter.Logs, error) {
	consume, err := consumer.NewLogs(func(_ context.Context, data plog.Logs) error {
		line, err := (&plog.JSONMarshaler{}).MarshalLogs(data)
		return c.(*config).append("logs.jsonl", line, err)
	})
	return logs{Logs: consume}, err
}

func newMetrics(_ context.Context, _ exporter.Settings, c component.Config) (exporter.Metrics, error) {
	consume, err := consumer.NewMetrics(func(_ context.Context, data pmetric.Metrics) error {
		line, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(data)
		return c.(*config).append("metrics.jsonl", line, err)
	})
	return metrics{Metrics: consume}, err
}

func main() {
	stable := component.StabilityLevelStable
	lines := exporter.NewFactory(component.MustNewType("lines"), func() component.Config { return &config{} },
		exporter.WithTraces(newTraces, stable), exporter.WithLogs(newLogs, stable), exporter.WithMetrics(newMetrics, stable))
	otlp := otlpreceiver.NewFactory()
	command := otelcol.NewCommand(otelcol.CollectorSettings{
		BuildInfo: component.NewDefaultBuildInfo(),
		Factories: func() (otelcol.Factories, error) {
			return otelcol.Factories{
				Receivers: map[component.Type]receiver.Factory{otlp.Type(): otlp},
				Exporters: map[component.Type]exporter.Factory{lines.Type(): lines},
				Telemetry: otelconftelemetry.NewFactory(),
			}, nil
		},
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			DefaultScheme:     "yaml",
			ProviderFactories: []confmap.ProviderFactory{yamlprovider.NewFactory()},
		}},
	})
	if err := command.Execute(); err != nil {
		log.Fatal(err)
	}
}
