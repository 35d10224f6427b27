// Documents of the control plane, as far as the portal reads them, and where they are.

/** The api-versions that the portal speaks. */
export const version = {
  webPubSub: "2024-03-01",
  identity: "2023-01-31",
  resources: "2022-12-01",
  authorization: "2022-04-01",
  vaults: "2023-07-01",
  secrets: "7.6",
  dataPlane: "2024-12-01",
} as const;

export interface List<T> {
  value: T[];
}

export interface Identity {
  type: "None" | "SystemAssigned" | "UserAssigned";
  principalId?: string;
  tenantId?: string;
  userAssignedIdentities?: Record<string, { principalId?: string; clientId?: string }>;
}

export interface Instance {
  id: string;
  name: string;
  location: string;
  kind: string;
  tags: Record<string, string>;
  sku: { name: string; tier: string; capacity: number };
  identity: Identity;
  properties: {
    hostName: string;
    publicPort: number;
    version: string;
    provisioningState: string;
    disableLocalAuth: boolean;
    disableAadAuth: boolean;
    tabard?: { identitySource?: { type: string } };
  };
}

export interface Auth {
  type: "None" | "ManagedIdentity";
  managedIdentity?: { resource?: string };
}

export interface EventHandler {
  urlTemplate: string;
  userEventPattern?: string;
  systemEvents: string[];
  auth?: Auth;
}

export interface HubProperties {
  eventHandlers: EventHandler[];
  eventListeners?: unknown[];
  anonymousConnectPolicy: string;
  webSocketKeepAliveIntervalInSeconds: number;
  tabard?: { dropOnUserEventFailure: boolean; encodeSecrets: boolean };
}

export interface Hub {
  id: string;
  name: string;
  properties: HubProperties;
}

export interface Keys {
  primaryKey: string;
  primaryConnectionString: string;
  secondaryKey: string;
  secondaryConnectionString: string;
}

export interface Crowd {
  name: string;
  connections: number;
}

export interface LiveHub {
  name: string;
  connections: number;
  users: Crowd[];
  groups: Crowd[];
  userCount: number;
  groupCount: number;
}

export interface Live {
  endpoint: string;
  connections: number;
  users: number;
  hubs: LiveHub[];
}

export interface LiveConnection {
  connectionId: string;
  userId?: string;
  subprotocol?: string;
  groups: string[];
}

export interface HandlerCheck {
  url: string;
  secretUris: string[];
  warnings: string[];
  check?: { passed: boolean; code: string; status: number; sentence: string; fix: string; detail: string; claims?: Record<string, unknown> };
}

export interface UserIdentity {
  id: string;
  name: string;
  location: string;
  properties: { principalId: string; clientId: string; tenantId: string };
}

export interface Application {
  id: string;
  appId: string;
  displayName: string;
  identifierUris: string[];
  api?: { requestedAccessTokenVersion: number | null };
}

export interface ServicePrincipal {
  id: string;
  appId: string;
  displayName: string;
  servicePrincipalType: string;
  accountEnabled: boolean;
}

export interface RoleAssignment {
  id: string;
  name: string;
  properties: { roleDefinitionId: string; principalId: string; principalType: string; scope: string; description: string | null; createdOn: string };
}

export interface RoleDefinition {
  id: string;
  name: string;
  properties: { roleName: string; description: string };
}

export interface AccessPolicy {
  tenantId: string;
  objectId: string;
  permissions: { secrets: string[]; keys: string[]; certificates: string[] };
}

export interface Vault {
  id: string;
  name: string;
  location: string;
  properties: { vaultUri: string; tenantId: string; enableRbacAuthorization: boolean; accessPolicies: AccessPolicy[]; softDeleteRetentionInDays: number };
}

export interface SecretItem {
  id: string;
  contentType?: string;
  attributes: { enabled: boolean; created: number; updated: number; exp?: number };
}

export interface Subscription {
  subscriptionId: string;
  tenantId: string;
  displayName: string;
}

/** lastSegment is the name at the end of an id or URL. */
export function lastSegment(id: string): string {
  return decodeURIComponent(id.slice(id.lastIndexOf("/") + 1));
}

/** resourceGroup is the group that an ARM id names, empty if it names none. */
export function resourceGroup(id: string): string {
  return /\/resourceGroups\/([^/]+)/i.exec(id)?.[1] ?? "";
}

export const segment = encodeURIComponent;
