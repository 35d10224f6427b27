package conformance_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/monitor/armmonitor"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/webpubsub/armwebpubsub"
)

// TestTheActivityLogWithItsOfficialClient changes something with one management client and finds it with another.
func TestTheActivityLogWithItsOfficialClient(t *testing.T) {
	s := start(t)
	m := s.manager(t, "Contributor")
	wps := must[*armwebpubsub.ClientFactory](t)(armwebpubsub.NewClientFactory(s.SubscriptionID, m.credential, m.options))
	done(t, func(ctx context.Context) (*runtime.Poller[armwebpubsub.HubsClientCreateOrUpdateResponse], error) {
		return wps.NewHubsClient().BeginCreateOrUpdate(ctx, "chat", "default", "default", armwebpubsub.Hub{Properties: &armwebpubsub.HubProperties{AnonymousConnectPolicy: to.Ptr("allow")}}, nil)
	})

	logs := must[*armmonitor.ActivityLogsClient](t)(armmonitor.NewActivityLogsClient(s.SubscriptionID, m.credential, m.options))
	filter := fmt.Sprintf("eventTimestamp ge '%s' and resourceProvider eq 'Microsoft.SignalRService'", time.Now().Add(-time.Hour).UTC().Format(time.RFC3339))
	found := all(t, logs.NewListPager(filter, nil), func(p armmonitor.ActivityLogsClientListResponse) []*armmonitor.EventData { return p.Value })
	if len(found) != 1 {
		t.Fatalf("%d events, want 1: %s", len(found), asJSON(found))
	}
	e := found[0]
	if *e.Caller != m.objectID || *e.OperationName.Value != "Microsoft.SignalRService/WebPubSub/hubs/write" || *e.Status.Value != "Succeeded" || !strings.HasSuffix(*e.ResourceID, "/hubs/chat") ||
		time.Since(*e.EventTimestamp) > time.Hour || !strings.Contains(*e.Properties["after"], `"anonymousConnectPolicy":"allow"`) || *e.Authorization.Action != *e.OperationName.Value {
		t.Errorf("the event is %s", asJSON(e))
	}
}
