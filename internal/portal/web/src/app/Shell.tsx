import { Button, Dropdown, makeStyles, mergeClasses, Option, Text, tokens, Tooltip } from "@fluentui/react-components";
import { AppsRegular } from "@fluentui/react-icons/svg/apps";
import { BeakerRegular } from "@fluentui/react-icons/svg/beaker";
import { BookOpenRegular } from "@fluentui/react-icons/svg/book-open";
import { HomeRegular } from "@fluentui/react-icons/svg/home";
import { KeyRegular } from "@fluentui/react-icons/svg/key";
import { LockClosedRegular } from "@fluentui/react-icons/svg/lock-closed";
import { PeopleRegular } from "@fluentui/react-icons/svg/people";
import { PersonKeyRegular } from "@fluentui/react-icons/svg/person-key";
import { PlugConnectedRegular } from "@fluentui/react-icons/svg/plug-connected";
import { PulseRegular } from "@fluentui/react-icons/svg/pulse";
import { SettingsRegular } from "@fluentui/react-icons/svg/settings";
import { ShieldRegular } from "@fluentui/react-icons/svg/shield";
import { SignOutRegular } from "@fluentui/react-icons/svg/sign-out";
import { WeatherMoonRegular } from "@fluentui/react-icons/svg/weather-moon";
import { WeatherSunnyRegular } from "@fluentui/react-icons/svg/weather-sunny";
import { type ReactNode, useEffect, useRef, useState } from "react";
import { NavLink, Outlet, useLocation, useNavigate } from "react-router";
import { endSession, type Session } from "../signin/session";
import { instancePath, useInstances } from "./api";
import { setMode, useTheme } from "./theme";

const useStyles = makeStyles({
  frame: { display: "grid", gridTemplateColumns: "232px minmax(0, 1fr)", gridTemplateRows: "48px minmax(0, 1fr)", height: "100vh", "@media (max-width: 720px)": { gridTemplateColumns: "56px minmax(0, 1fr)" } },
  header: { gridColumn: "1 / -1", display: "flex", alignItems: "center", gap: tokens.spacingHorizontalM, paddingInline: tokens.spacingHorizontalL, borderBottom: `1px solid ${tokens.colorNeutralStroke2}`, backgroundColor: tokens.colorNeutralBackground1 },
  spring: { flexGrow: 1 },
  nav: { overflowY: "auto", paddingBlock: tokens.spacingVerticalM, backgroundColor: tokens.colorNeutralBackground2, borderRight: `1px solid ${tokens.colorNeutralStroke2}` },
  list: { listStyleType: "none", margin: 0, padding: 0 },
  heading: { display: "block", padding: `${tokens.spacingVerticalM} ${tokens.spacingHorizontalL} ${tokens.spacingVerticalXS}`, color: tokens.colorNeutralForeground3, "@media (max-width: 720px)": { display: "none" } },
  link: {
    display: "flex", alignItems: "center", gap: tokens.spacingHorizontalM, padding: `${tokens.spacingVerticalSNudge} ${tokens.spacingHorizontalL}`,
    color: tokens.colorNeutralForeground1, textDecorationLine: "none", borderLeft: "3px solid transparent",
    ":hover": { backgroundColor: tokens.colorNeutralBackground2Hover },
    ":focus-visible": { outline: `2px solid ${tokens.colorStrokeFocus2}`, outlineOffset: "-2px" },
    "@media (max-width: 720px)": { justifyContent: "center", paddingInline: tokens.spacingHorizontalXS, "& span": { display: "none" } },
  },
  active: { borderLeftColor: tokens.colorCompoundBrandStroke, backgroundColor: tokens.colorNeutralBackground2Selected, fontWeight: tokens.fontWeightSemibold },
  main: { overflowY: "auto", backgroundColor: tokens.colorNeutralBackground1, ":focus-visible": { outlineStyle: "none" } },
  skip: { position: "absolute", top: "-100px", left: tokens.spacingHorizontalS, zIndex: 10, backgroundColor: tokens.colorNeutralBackground1, padding: tokens.spacingHorizontalM, ":focus": { top: tokens.spacingVerticalS } },
  instances: { minWidth: "160px" },
});

interface Entry {
  to: string;
  label: string;
  icon: ReactNode;
}

const ofInstance: Entry[] = [
  { to: "overview", label: "Overview", icon: <HomeRegular /> },
  { to: "quickstart", label: "Quickstart", icon: <BookOpenRegular /> },
  { to: "keys", label: "Keys", icon: <KeyRegular /> },
  { to: "settings", label: "Settings", icon: <SettingsRegular /> },
  { to: "identity", label: "Identity", icon: <PersonKeyRegular /> },
  { to: "access", label: "Access control (IAM)", icon: <ShieldRegular /> },
  { to: "trace", label: "Live trace", icon: <PulseRegular /> },
  { to: "playground", label: "Playground", icon: <BeakerRegular /> },
  { to: "connections", label: "Connections", icon: <PlugConnectedRegular /> },
];

const ofTenant: Entry[] = [
  { to: "/applications", label: "Applications", icon: <AppsRegular /> },
  { to: "/identities", label: "User-assigned identities", icon: <PeopleRegular /> },
  { to: "/vaults", label: "Key vaults", icon: <LockClosedRegular /> },
];

/** Shell is what surrounds every page: where one is, where one can go, who one is. */
export function Shell({ session }: { session: Session }) {
  const styles = useStyles();
  const { mode } = useTheme();
  const { pathname } = useLocation();
  const main = useRef<HTMLElement>(null);
  const current = useCurrentPath(pathname);
  useEffect(() => {
    main.current?.focus({ preventScroll: true }); // screen readers hear of the new page
  }, [pathname]);
  return (
    <div className={styles.frame}>
      <a
        className={styles.skip}
        href="#main"
        onClick={(e) => {
          e.preventDefault(); // the fragment is the router's
          main.current?.focus();
        }}
      >
        Skip to content
      </a>
      <header className={styles.header}>
        <Text weight="semibold" size={400}>
          Tabard
        </Text>
        <InstancePicker current={current} />
        <div className={styles.spring} />
        <Text>{session.name}</Text>
        <Tooltip content={mode === "dark" ? "Light theme" : "Dark theme"} relationship="label">
          <Button appearance="subtle" icon={mode === "dark" ? <WeatherSunnyRegular /> : <WeatherMoonRegular />} onClick={() => setMode(mode === "dark" ? "light" : "dark")} />
        </Tooltip>
        <Tooltip content="Sign out" relationship="label">
          <Button appearance="subtle" icon={<SignOutRegular />} onClick={() => endSession()} />
        </Tooltip>
      </header>
      <nav className={styles.nav} aria-label="Pages">
        {current && <Links heading="Web PubSub" entries={ofInstance.map((e) => ({ ...e, to: `${current}/${e.to}` }))} />}
        <Links heading="Tenant" entries={ofTenant} />
      </nav>
      <main className={styles.main} id="main" tabIndex={-1} ref={main}>
        <Outlet />
      </main>
    </div>
  );
}

function Links({ heading, entries }: { heading: string; entries: Entry[] }) {
  const styles = useStyles();
  return (
    <>
      <Text size={200} weight="semibold" className={styles.heading}>
        {heading}
      </Text>
      <ul className={styles.list}>
        {entries.map((e) => (
          <li key={e.to}>
            <NavLink to={e.to} className={({ isActive }) => mergeClasses(styles.link, isActive && styles.active)} aria-label={e.label}>
              {e.icon}
              <span>{e.label}</span>
            </NavLink>
          </li>
        ))}
      </ul>
    </>
  );
}

/** useCurrentPath is where the pages of the instance at hand are: the one of this page, or else the last or first one. */
function useCurrentPath(pathname: string): string | undefined {
  const here = /^\/instances\/[^/]+\/[^/]+/.exec(pathname)?.[0];
  const [last, setLast] = useState(here);
  if (here !== undefined && here !== last) setLast(here);
  const first = useInstances().data?.value[0];
  return here ?? last ?? (first && instancePath(first.id, first.name, ""));
}

function InstancePicker({ current }: { current: string | undefined }) {
  const styles = useStyles();
  const navigate = useNavigate();
  const instances = useInstances().data?.value ?? [];
  const selected = instances.find((i) => instancePath(i.id, i.name, "") === current);
  return (
    <Dropdown
      className={styles.instances}
      aria-label="Instance"
      value={selected?.name ?? decodeURIComponent(current?.split("/").at(-1) ?? "")}
      selectedOptions={selected ? [selected.id] : []}
      onOptionSelect={(_, d) => {
        const chosen = instances.find((i) => i.id === d.optionValue);
        if (chosen) void navigate(instancePath(chosen.id, chosen.name));
      }}
    >
      {instances.map((i) => (
        <Option key={i.id} value={i.id}>
          {i.name}
        </Option>
      ))}
    </Dropdown>
  );
}
