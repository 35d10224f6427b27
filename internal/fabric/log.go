package fabric

import (
	"context"
	"fmt"
	"log/slog"
)

// serverLog sends the embedded server's lines to slog. They tell of the engine, not of the service, so all
// but warnings and errors are debug.
type serverLog struct{ log *slog.Logger }

func (l *serverLog) line(level slog.Level, format string, args []any) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	l.log.Log(context.Background(), level, "NATS server", "line", fmt.Sprintf(format, args...))
}

func (l *serverLog) Noticef(format string, args ...any) { l.line(slog.LevelDebug, format, args) }
func (l *serverLog) Debugf(format string, args ...any)  { l.line(slog.LevelDebug, format, args) }
func (l *serverLog) Tracef(format string, args ...any)  { l.line(slog.LevelDebug, format, args) }
func (l *serverLog) Warnf(format string, args ...any)   { l.line(slog.LevelWarn, format, args) }
func (l *serverLog) Errorf(format string, args ...any)  { l.line(slog.LevelWarn, format, args) }

// Fatalf does not end the process: only main does. The server is not ready afterwards, which Open reports.
func (l *serverLog) Fatalf(format string, args ...any) { l.line(slog.LevelError, format, args) }
