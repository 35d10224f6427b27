package identity

import (
	"context"
	"testing"
	"time"
)

// userAssigned has ids of the length that real ones have: hashing them is most of a lookup.
var userAssigned = Principal{
	TenantID:       "aaaa0000-0000-4000-8000-00000000000a",
	PrincipalID:    "bbbb0000-0000-4000-8000-00000000000b",
	ClientID:       "cccc0000-0000-4000-8000-00000000000c",
	ResourceID:     "/subscriptions/dddd0000-0000-4000-8000-00000000000d/resourcegroups/production/providers/Microsoft.ManagedIdentity/userAssignedIdentities/orders",
	HostResourceID: "/subscriptions/dddd0000-0000-4000-8000-00000000000d/resourceGroups/production/providers/Microsoft.SignalRService/webPubSub/default",
}

func issue(_ context.Context, _ Principal, resource string) (*Token, error) {
	now := time.Now()
	return NewToken("header.e30."+resource, now, now.Add(24*time.Hour), time.Time{}), nil
}

func BenchmarkCachedToken(b *testing.B) {
	c := NewCache(sourceFunc(issue), Options{})
	defer c.Close()
	ctx := b.Context()
	for _, resource := range []string{"api://orders", "api://sample-handler", "https://vault.azure.net"} {
		if _, err := c.Token(ctx, userAssigned, resource); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("one goroutine", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = c.Token(ctx, userAssigned, "api://sample-handler")
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_, _ = c.Token(ctx, userAssigned, "api://sample-handler")
			}
		})
	})
}
