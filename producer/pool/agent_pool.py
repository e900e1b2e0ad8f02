"""`AgentPool`: many LiveKit agents in one worker, each call routed to one of them and observed.

It runs on livekit-agents' own `AgentServer`: processes and threads, load, draining and the commands
are LiveKit's. Agents stay plain `Agent` subclasses. Whatever is registered must pickle, because
each call runs in a process of its own, and must be registered before `run()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from inspect import iscoroutinefunction as is_async
from pathlib import Path
from typing import Any

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli

from voicecosts.producer.errors import InvalidRegistration, NoAgents, NoSuchAgent, shown
from voicecosts.producer.pool.admission import Admission, RequestFilter, checked_caps
from voicecosts.producer.pool.config import (
    AgentConfig,
    Defaults,
    Provider,
    SessionOptions,
    as_name,
    check_greeting,
    check_provider,
    checked,
    copied,
    require_picklable,
    type_name,
)
from voicecosts.producer.pool.discovery import Discovered, discover
from voicecosts.producer.pool.observers import (
    HookLimits,
    SessionObserver,
    checked_limits,
    registered,
)
from voicecosts.producer.pool.routing import Router
from voicecosts.producer.pool.session import PoolState, end_session, run_session, session_here


class AgentPool:
    """Hosts agents in one worker; `server` is the LiveKit server that it registers itself with.

    A call goes to the first of: the custom `router`; `agent`, then `demo` in the job's metadata;
    the same in the room's; the agent whose `<name>-` the room name begins with; the first
    registered. An unknown name refuses the call. `default_*` fill what an agent leaves open.

    `request_filter` is LiveKit's request hook; `accept_only_registered_rooms` takes only jobs that
    name an agent of this pool. Caps come first, and `"default"` caps calls without a tenant.
    `agent_name` makes the worker one for explicit dispatch. `server` is a LiveKit `AgentServer`
    with settings of your own, such as its executor.

    Raises:
        NotPicklable: An observer or the router cannot go into a job process.
        InvalidRegistration: Two options contradict each other, a cap is not a number of at least 1,
            `agent_name` is blank, a hook has no time, or another option is not what it must be.
    """

    def __init__(
        self,
        *,
        observers: Sequence[SessionObserver] = (),
        default_stt: Provider | None = None,
        default_llm: Provider | None = None,
        default_tts: Provider | None = None,
        default_greeting: str | None = None,
        router: Router | None = None,
        request_filter: RequestFilter | None = None,
        accept_only_registered_rooms: bool = False,
        max_sessions_per_agent: Mapping[str, int] | None = None,
        max_sessions_per_tenant: Mapping[str, int] | None = None,
        hook_limits: HookLimits | None = None,
        agent_name: str | None = None,
        server: AgentServer | None = None,
    ) -> None:
        if request_filter is not None and accept_only_registered_rooms:
            raise InvalidRegistration(
                "pass either request_filter or accept_only_registered_rooms, not both"
            )
        if request_filter is not None and not callable(request_filter):
            raise InvalidRegistration(
                f"request_filter is {request_filter!r}: pass an async function that takes a request"
            )
        _check_router(router)
        if isinstance(observers, SessionObserver) or not isinstance(observers, Iterable):
            raise InvalidRegistration(
                f"observers is {shown(observers)}: pass a list of observers, or leave it out"
            )
        if not isinstance(server, AgentServer | None):
            raise InvalidRegistration(f"server is {server!r}: pass LiveKit's AgentServer")
        self._defaults = Defaults(default_stt, default_llm, default_tts, default_greeting)
        for role in ("stt", "llm", "tts"):
            check_provider(f"default_{role}", role, getattr(self._defaults, role))
        check_greeting("default_greeting", default_greeting)
        self._state = PoolState(router=router, limits=checked_limits(hook_limits))
        for observer in observers:
            self.add_observer(observer)
        self._server = AgentServer() if server is None else server
        admission = Admission(
            self._state.agents,
            lambda: self._server.active_jobs,
            caps=checked_caps(max_sessions_per_agent, max_sessions_per_tenant),
            router=router,
            own_rooms_only=accept_only_registered_rooms,
            then=request_filter,
        )
        self._server.rtc_session(
            partial(run_session, self._state),
            agent_name=_dispatch_name(agent_name),
            on_request=admission,
            on_session_end=end_session,
        )

    def __repr__(self) -> str:
        names, observers = ", ".join(self._state.agents), len(self._state.observers)
        return f"<AgentPool of {names or 'no agents'}, {observers} observers>"

    @property
    def server(self) -> AgentServer:
        """LiveKit's server: bind it to a module's name for `python -m livekit.agents start`."""
        return self._server

    def add(
        self,
        name: str,
        agent_class: type[Agent],
        *,
        stt: Provider | None = None,
        llm: Provider | None = None,
        tts: Provider | None = None,
        greeting: str | None = None,
        session_kwargs: SessionOptions | None = None,
        source_path: str | Path | None = None,
    ) -> AgentConfig:
        """Register an agent; the first one gets the calls that name none.

        A provider is a LiveKit model string, a value that pickles, or a factory that is called for
        each session, so that calls share nothing. `session_kwargs` are further arguments of
        `AgentSession`, or a factory of them; a mapping is copied.

        Raises:
            InvalidRegistration: The name is malformed or registered already, or LiveKit can make
                no session of the rest.
            NotPicklable: A part cannot go into a job process; the message says what to do.
            TypeError: The class is not a subclass of `livekit.agents.Agent`.
        """
        defaults = self._defaults
        config = AgentConfig(
            name=as_name(name, of=type_name(agent_class)),
            agent_class=agent_class,
            stt=defaults.stt if stt is None else stt,
            llm=defaults.llm if llm is None else llm,
            tts=defaults.tts if tts is None else tts,
            greeting=defaults.greeting if greeting is None else greeting,
            session_kwargs=copied(
                dict(session_kwargs) if isinstance(session_kwargs, Mapping) else session_kwargs
            ),
            source_path=None if source_path is None else Path(source_path).resolve(),
        )
        other = self._state.agents.get(config.name)
        if other is not None:
            where = other.source_path or type_name(other.agent_class)
            raise InvalidRegistration(
                f"agent '{config.name}' is registered already, from {where}: names must differ"
            )
        self._state.agents[config.name] = checked(config)
        return config

    def discover(self, directory: str | Path) -> list[AgentConfig]:
        """Register the agent of each `.py` file of a directory, in the order of the file names.

        Raises:
            DiscoveryFailed: The directory or a file in it cannot be loaded; the message names it.
            InvalidRegistration: As `add`; the message names the file.
        """
        return [self._add_found(found) for found in discover(directory)]

    def _add_found(self, found: Discovered) -> AgentConfig:
        try:
            return self.add(
                found.name,
                found.agent_class,
                stt=found.mark.stt,
                llm=found.mark.llm,
                tts=found.mark.tts,
                greeting=found.mark.greeting,
                session_kwargs=found.mark.session_kwargs,
                source_path=found.path,
            )
        except InvalidRegistration as error:
            raise InvalidRegistration(f"agent module {found.path}: {error}") from error

    def remove(self, name: str) -> AgentConfig:
        """Remove an agent and return it; job processes that are running already still have it.

        Raises:
            NoSuchAgent: There is none of this name.
        """
        config = self.get(name)
        del self._state.agents[name]
        return config

    def get(self, name: str) -> AgentConfig:
        """Return a registered agent.

        Raises:
            NoSuchAgent: There is none of this name.
        """
        try:
            return self._state.agents[name]
        except (KeyError, TypeError):  # no such name, or what can be none
            raise NoSuchAgent(name, self._state.agents) from None

    def list_agents(self) -> list[str]:
        """Return the names in the order of registration."""
        return list(self._state.agents)

    def add_observer(self, observer: SessionObserver) -> None:
        """Add an observer: its hooks are called for every call.

        Raises:
            TypeError: It is a class, or lacks a hook, `on_session_start` or `on_session_end`.
            NotPicklable: It cannot be pickled; it should hold configuration only.
        """
        kept = registered(observer)
        way_out = "hold configuration only, and open the rest at the first on_session_start"
        require_picklable(f"observer {type_name(observer)}", observer, way_out)
        self._state.observers.append(kept)

    def session(self, job: JobContext) -> AbstractAsyncContextManager[AgentSession[Any]]:
        """Run one call in this process, as LiveKit would run it: for tests and trials.

        The job (`livekit.agents.testing.fake_job_context` makes one) is routed, its session is
        observed and started. When the body ends, the session is closed and its end is reported.

        Raises:
            Refused: The job cannot be routed.
        """
        return session_here(self._state, job)

    def run(self) -> None:
        """Run LiveKit's commands (`start`, `connect`, and others it calls deprecated) with this pool.

        Raises:
            NoAgents: Nothing is registered.
        """
        if not self._state.agents:
            raise NoAgents
        cli.run_app(self._server)


def _dispatch_name(agent_name: object) -> str:
    """Return the name under which the worker is dispatched; LiveKit's word for none is empty."""
    if agent_name is None or agent_name == "":
        return ""
    stripped = agent_name.strip() if isinstance(agent_name, str) else ""
    if not stripped:
        raise InvalidRegistration(
            f"agent_name is {agent_name!r}, and a worker of that name never gets a call: "
            "name it, or leave it out to be offered every call"
        )
    return stripped


def _check_router(router: object) -> None:
    if router is None:
        return
    if not callable(router) or is_async(router) or is_async(type(router).__call__):
        raise InvalidRegistration(
            f"the router is {type_name(router)}: pass a plain function (not an async one) that "
            "takes the job's metadata and returns an agent's name or None"
        )
    require_picklable("the router", router, "pass a function of a module")
