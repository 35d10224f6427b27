package arm

import (
	"context"
	"fmt"
	"sync"
	"time"

	"tabard/guard/reason"
	"tabard/internal/settings"
)

// The endpoint validation of a hub's handlers when it is configured (event-handlers.md 5). Azure's portal refuses a
// handler that fails it; infrastructure as code sets a hub up before its handler runs. So a failure is a warning here,
// unless the instance demands more. The gate before the first event is another one and always closed.

// validationWait bounds how long a hub's PUT waits for all of its handlers together.
const validationWait = 5 * time.Second

// validateHandlers asks every handler once whether it wants events, all at the same time, and says what came of those
// that do not.
func (s *server) validateHandlers(ctx context.Context, in *settings.Instance, h *settings.Hub) settings.Faults {
	if s.CheckHandler == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, validationWait)
	defer cancel()
	type target struct {
		url, audience string
		token         bool
	}
	var (
		problems = make([]string, len(h.EventHandlers))
		asked    = map[target]bool{} // the same question is asked once
		wg       sync.WaitGroup
	)
	for i, e := range h.EventHandlers {
		t := target{e.URLTemplate, e.Resource(), e.UsesManagedIdentity()}
		if asked[t] || t.token && s.identityProblem(in) != "" && in.Extensions.Validation() == settings.ValidationWarn {
			continue // a handler that cannot be asked for want of an identity has a warning of its own
		}
		asked[t] = true
		wg.Go(func() { problems[i] = problemOf(s.CheckHandler(ctx, in, h.Name, e)) })
	}
	wg.Wait()
	var faults settings.Faults
	for i, problem := range problems {
		if problem != "" {
			faults = append(faults, settings.Fault{Field: fmt.Sprintf("properties.eventHandlers[%d].urlTemplate", i), Problem: problem})
		}
	}
	return faults
}

func problemOf(c HandlerCheck) string {
	if c.Code == reason.Delivered {
		return ""
	}
	text := "did not pass the endpoint validation"
	if c.Detail != "" {
		text += ": " + c.Detail
	}
	return fmt.Sprintf("%s (%s)", text, c.Code)
}

// warningsOf words faults as warnings.
func warningsOf(faults settings.Faults) []string {
	warnings := make([]string, len(faults))
	for i, f := range faults {
		warnings[i] = f.Field + " " + f.Problem
	}
	return warnings
}
